"""Layouts of what goes to the Function and comes back. The other side is meterline.lua; the numbers are the same."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from itertools import chain
from typing import Any

from services.rating.domain.balances import Bucket, BucketSpec, Holder, Renewal, Role, RollOverOrder
from services.rating.domain.decisions import (
    Actor,
    ChargeOp,
    ConfigureOp,
    LeaseOp,
    Movement,
    Notice,
    Op,
    Outcome,
    Purpose,
    RefillOp,
    SessionImage,
    SessionOp,
    SessionState,
    TopUpOp,
)
from services.rating.domain.escrow import Kind, Slice
from services.rating.domain.operations import OperationOp, RefundOp
from services.rating.domain.programs import Program
from services.rating.domain.reasons import BalanceState, Unit
from services.rating.engine import operations
from services.runtime.packing import pack, unpack


class OpKind(IntEnum):
    """What an operation does; the first element of its wire form."""

    CHARGE = 1
    CONFIGURE = 2
    TOP_UP = 3
    SESSION = 4
    REFUND = operations.REFUND
    ADJUST = operations.ADJUST
    TRANSFER = operations.TRANSFER
    LEASE = 8
    REFILL = 9


class ProgramWires:
    """Programs in the form that the Function reads, packed once, each with a digest by which it knows them again.

    Args:
        entries_max: how many are kept.
    """

    def __init__(self, entries_max: int = 100_000) -> None:
        self._packed: dict[str, tuple[bytes, bytes]] = {}
        self._entries_max = entries_max

    def __call__(self, program: Program) -> tuple[bytes, bytes]:
        """Return the digest of a program's packed form, and the form."""
        known = self._packed.get(program.id)
        if known is None:
            if len(self._packed) >= self._entries_max:
                self._packed.clear()
            packed = pack(program.wire, text_as_bytes=True)
            known = self._packed[program.id] = (hashlib.blake2b(packed, digest_size=16).digest(), packed)
        return known


class Batch:
    """Operations put together for one call.

    Args:
        ops: the operations.
        wires: packs programs.
    """

    def __init__(self, ops: Iterable[Op], wires: ProgramWires) -> None:
        self._wires = wires
        self._positions: dict[str, int] = {}
        self._places: list[bytes | int] = []
        self._programs: list[bytes] = []
        self._named: list[str] = []
        self.ops: list[list[Any]] = []
        self.records: list[list[Any]] = []
        for op in ops:
            if isinstance(op, ChargeOp):
                self._charge(op)
            else:
                self._other(op)

    def _position(self, program: Program) -> int:
        position = self._positions.get(program.id)
        if position is None:
            digest, packed = self._wires(program)
            self._places += (digest, len(packed))
            self._programs.append(packed)
            position = self._positions[program.id] = len(self._programs)
        return position

    def _charge(self, op: ChargeOp) -> None:
        program = op.program
        position = self._position(program)
        wire = [1, op.id_digest, op.body_digest, op.endpoint_id, position, op.quantity, op.usage_ms, op.mode]
        if program.counts or op.slices:
            wire += [program.periods(op.usage_ms), op.cost, op.session_ref, op.slices or False]
        self.ops.append(wire)
        self.records.append([1, position - 1, op.record])

    def _other(self, op: ConfigureOp | TopUpOp | RefillOp | SessionOp | LeaseOp | OperationOp) -> None:
        if isinstance(op, ConfigureOp):
            specs = [_spec(spec) for spec in op.buckets]
            wire = [int(OpKind.CONFIGURE), op.holder_id, op.version, op.limit_version, op.limit, specs, op.look]
            self.ops.append(wire)
            self.records.append([int(OpKind.CONFIGURE), op.path])
        elif isinstance(op, TopUpOp):
            self.ops.append([int(OpKind.TOP_UP), op.id_digest, op.body_digest, op.holder_id, op.micros])
            asked = [op.holder_id, op.micros, op.request_id, _by(op.by), op.id_digest, op.body_digest]
            self.records.append([int(OpKind.TOP_UP), *asked])
        elif isinstance(op, RefillOp):
            terms = [op.quantity, op.validity_ms, op.maximum]
            self.ops.append([int(OpKind.REFILL), op.id_digest, op.body_digest, op.holder_id, op.bucket, *terms])
            asked = [op.holder_id, op.quantity, op.request_id, _by(op.by), op.id_digest, op.body_digest]
            self.records.append([int(OpKind.REFILL), *asked, op.bucket])
        elif isinstance(op, LeaseOp):
            lease = [int(OpKind.LEASE), op.holder_id, op.kind, op.leased, op.give_back]
            self.ops.append(lease)
            self.records.append(lease)
        elif isinstance(op, SessionOp):
            self._session(op)
        else:
            self.ops.append(operations.to_function(op))
            self.records.append(operations.to_journal(op))
            if isinstance(op, RefundOp):
                self._named.append(op.program_id)

    def _session(self, op: SessionOp) -> None:
        positions = [self._position(line.program) for line in op.lines]
        granting = [self._position(line.grant) for line in op.lines]
        lines = [
            [
                line.service,
                position,
                line.used,
                line.requested,
                line.usage_ms,
                line.program.periods(line.usage_ms),
                line.slices or False,
                grant,
                line.grant.periods(line.grant_ms),
            ]
            for line, position, grant in zip(op.lines, positions, granting, strict=True)
        ]
        head = [op.session_id, int(op.action), op.sequence, op.body_digest, op.endpoint_id]
        about = [op.endpoint_id, op.session_ref, op.network_id, op.access_type]
        self.ops.append(
            [int(OpKind.SESSION), *head, op.event_ms, op.valid_until_ms, lines, about, op.ends_ms, list(op.used_on)]
        )
        reported = [
            [line.service, position - 1, line.used, line.usage_ms]
            for line, position in zip(op.lines, positions, strict=True)
        ]
        said = [op.session_id, op.sequence, op.endpoint_id, *op.used_on, op.event_ms]
        self.records.append([int(OpKind.SESSION), said, reported])

    def arguments(
        self, header: Sequence[int], expected: Mapping[str, int], mark: bytes, purpose: Purpose = Purpose.DECIDE
    ) -> list[bytes]:
        """The arguments of the Function; the header is epoch, least sequence, now, id ttl, journalled up to."""
        return [
            pack([*header, expected, self.ops, mark, int(purpose)], text_as_bytes=True),
            pack(self._places, text_as_bytes=True),
            pack([[*self._positions, *self._named], self.records]),
            b"".join(self._programs),
        ]


def _by(actor: Actor) -> list[str]:
    return [actor.actor, actor.account_id, actor.owner_path, actor.owner_id]


def _spec(spec: BucketSpec) -> list[Any]:
    renewal = spec.renewal
    return [
        spec.id,
        spec.ref,
        spec.priority,
        int(spec.role),
        spec.quantity,
        0,
        spec.quantity,
        int(spec.state),
        spec.activated_ms,
        spec.expires_ms,
        spec.validity_ms,
        list(spec.cycles),
        int(spec.unit),
        0,
        *([_renewal(renewal)] if renewal else [False] if spec.replaced_ms else ()),
        *([spec.replaced_ms] if spec.replaced_ms else ()),
        *([False, [*chain.from_iterable(spec.former)]] if spec.former else ()),
    ]


def _renewal(renewal: Renewal) -> dict[str, Any]:
    return {
        "quantity": renewal.quantity,
        "on": int(renewal.on),
        "most": renewal.most,
        "number": 1,
        "last_end": renewal.last_end_ms,
        "cycles": renewal.cycles,
        "shares": list(renewal.shares),
        **({"order": int(renewal.order)} if renewal.order is not RollOverOrder.OLDEST_FIRST else {}),
        **({"team": int(renewal.team)} if renewal.team else {}),
        **({"rests_most": renewal.rests_most} if renewal.rests_most else {}),
    }


def read_outcomes(blob: bytes) -> list[Outcome]:
    """Unpack outcomes."""
    outcomes: list[Outcome] = unpack(blob)[0]
    return outcomes


def read_decided(blob: bytes) -> tuple[list[Outcome], list[Movement], list[Notice]]:
    """Unpack outcomes, movements, and what people want to hear of."""
    outcomes, moves, notices, *_ = unpack(blob)
    return (
        outcomes,
        [Movement(operation - 1, *rest) for operation, *rest in moves],
        [Notice(operation - 1, *rest) for operation, *rest in notices],
    )


def read_images(blob: bytes) -> Mapping[str, bytes]:
    """Unpack the state that a batch left behind: values by key without the cell's tag."""
    if not blob:
        return {}
    flat = unpack(blob, raw=True)
    return {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}


def read_holder(holder_id: str, image: bytes) -> Holder:
    """Unpack a holder."""
    version, buckets, money, money_reserved, used, used_reserved, limit, told, blocked, counts, *full = unpack(image)
    return Holder(
        id=holder_id,
        version=version,
        buckets=[_bucket(*bucket) for bucket in buckets],
        money=money,
        money_reserved=money_reserved,
        credit_used=used,
        credit_reserved=used_reserved,
        credit_limit=limit,
        blocked=blocked,
        counts=counts or {},
        money_full=full[0] if full else 0,
        limit_version=told,
    )


def _bucket(*fields: Any) -> Bucket:
    name, ref, priority, role, remaining, reserved, granted, state, activated, expires, validity, _, unit, _, *more = (
        fields
    )
    return Bucket(
        id=name,
        ref=ref,
        priority=priority,
        role=Role(role),
        remaining=remaining,
        reserved=reserved,
        granted=granted,
        state=BalanceState(state),
        activated_ms=activated,
        expires_ms=expires,
        unit=Unit(unit),
        occurrence=more[0]["number"] if more and more[0] else 1,
        rest=RollOverOrder(-validity) if validity < 0 else None,
    )


def read_slice(image: bytes | None, lease: bytes | None, kind: int) -> Slice:
    """Unpack a holder's slice of money (1) or credit (2)."""
    totals = unpack(lease) if lease is not None else [0, 0, 0, 0]
    leased, returned = totals[2 * kind - 2 : 2 * kind]
    if image is None:
        return Slice(leased, returned)
    holder = read_holder("", image)
    money = holder.money - holder.money_reserved
    credit = holder.credit_limit - holder.credit_used - holder.credit_reserved
    return Slice(leased, returned, max(0, money if kind == Kind.MONEY else credit))


def read_session(image: bytes) -> SessionImage:
    """Unpack a session."""
    sequence, state, _, answers, valid_until, reservations, about, _, ends, late = unpack(image)
    due = valid_until if reservations else ends
    return SessionImage(sequence, SessionState(state), list(answers), valid_until, ends, late, due, *about)
