"""Folds the journal into the books: each segment exactly once, in order, behind the callers' backs."""

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog
from prometheus_client import Counter, Gauge

from services.common.clock import DAY_MS
from services.common.errors import MeterlineError
from services.common.identity import path_text
from services.rating.domain.balances import Drawn, balance_id
from services.rating.domain.decisions import AnsweredRequest, Segment, SegmentContent, Status, Used
from services.rating.domain.happenings import event_of
from services.rating.domain.operations import DoneOperation, RefundOp
from services.rating.domain.programs import Step, StepMode, steps_from_body
from services.rating.domain.reasons import MovementKind
from services.rating.domain.records import LINES_MAX, Position, usage_record_id
from services.rating.ports import Journal, Ledger, RefundRow, Sheet, UsageRow
from services.rating.usecases.auditing import PREFIXES, audited

SEGMENTS_MAX = 100
IDLE_SECONDS = 0.05
RETRY_SECONDS = 1.0
PROGRAMS_MAX = 50_000
TOP_UP_METHOD = "meterline.rating.v1.BalanceService/TopUpBalance"
REFILL_METHOD = "meterline.rating.v1.BalanceService/RefillBalance"

log = structlog.get_logger(part="fold")
FOLDED = Counter("meterline_fold_records", "Usage records posted to the books.")
POSITION = Gauge("meterline_fold_sequence", "Last segment folded.", ["cell"])
DECIDED = Gauge("meterline_fold_decided_timestamp_seconds", "When the last segment folded was decided.", ["cell"])

ProgramSteps = dict[str, tuple[tuple[Step, ...], str]]
"""Steps and account path by program id."""


def path_of(steps: Sequence[Step]) -> str:
    """Path of the enterprise whose endpoints a program charges: `operator/.../enterprise/`."""
    return path_text(step.payee for step in reversed(steps))


class SegmentFold:
    """Adds one segment to a sheet."""

    def __init__(self, cell: int, segment: Segment, programs: ProgramSteps, sheet: Sheet) -> None:
        self._cell = cell
        self._sequence = segment.sequence
        self._decided_ms = segment.decided_ms
        self._programs = programs
        self._sheet = sheet
        self._number = 0

    def add(self, content: SegmentContent) -> None:
        """Add what the segment says."""
        causes = {done.operation: self._cause(done) for done in content.operations}
        for movement in content.movements:
            place = max(movement.operation, 0) * LINES_MAX
            cause = causes.get(movement.operation) or usage_record_id(Position(self._cell, self._sequence, place))
            self._move(movement.holder_id, movement.bucket, movement.kind, movement.change, cause)
        for used in content.used:
            self._use(used)
        for request in content.requests:
            where = (self._cell, self._sequence, request.operation)
            row = (request.id_digest, request.body_digest, *where, request.answer, self._decided_ms)
            self._sheet.requests.append(row)
            self._audit(request)
        for done in content.operations:
            self._operation(done)
        for number, notice in enumerate(content.notices):
            steps, path = self._programs.get(notice.program_id, ((), notice.path))
            name = f"evt_{self._cell}.{self._sequence:019d}.{number}"
            self._sheet.events.append(event_of(notice, name, self._decided_ms, steps, path))
        self._sheet.images.update(content.images)

    def _cause(self, done: DoneOperation) -> str:
        return f"{PREFIXES[type(done.op)]}_{self._cell}.{self._sequence}.{done.operation}"

    def _operation(self, done: DoneOperation) -> None:
        request, where = done.op.request, (self._cell, self._sequence, done.operation)
        self._sheet.requests.append((request.id_digest, request.body_digest, *where, 0, self._decided_ms))
        self._sheet.audit.append(
            {
                "id": f"aud_{self._cell}.{self._sequence:019d}.{done.operation}",
                "created_ms": self._decided_ms,
                "actor": request.by.actor,
                "account_id": request.by.account_id,
                "request_id": request.request_id,
                "owner_account_id": request.by.owner_id,
                "owner_path": request.by.owner_path,
                **audited(done),
            }
        )
        if isinstance(done.op, RefundOp):
            self._refund(done, done.op)

    def _refund(self, done: DoneOperation, op: RefundOp) -> None:
        """Lower the sums of the day on which it is refunded; what was used stays used."""
        steps, path = self._programs[op.program_id]
        position = Position(self._cell, self._sequence, done.operation)
        self._sheet.refunds.append(RefundRow(position, path, done, self._decided_ms))
        day = self._decided_ms // DAY_MS
        for number, (step, (_, amount, _, _, covered)) in enumerate(zip(steps, done.answer[1], strict=False)):
            key = (path, day, op.endpoint_id, op.network_id, op.service, number, step.currency)
            total = self._sheet.totals.setdefault(key, [0, 0, 0, 0, 0])
            total[2] -= covered
            total[4] -= amount

    def _audit(self, request: AnsweredRequest) -> None:
        balance = balance_id(request.holder_id, request.bucket)
        kept = request.micros if request.kept is None else request.kept
        unit = "" if request.bucket else "_micros"
        after = {f"remaining{unit}": request.answer, f"added{unit}": kept}
        self._sheet.audit.append(
            {
                "id": f"aud_{self._cell}.{self._sequence:019d}.{request.operation}",
                "created_ms": self._decided_ms,
                "actor": request.by.actor,
                "account_id": request.by.account_id,
                "method": REFILL_METHOD if request.bucket else TOP_UP_METHOD,
                "request_id": request.request_id,
                "resource_type": "balance",
                "resource_id": balance,
                "owner_account_id": request.by.owner_id,
                "owner_path": request.by.owner_path,
                "before": {f"remaining{unit}": request.answer - kept},
                "after": after,
            }
        )

    def _use(self, used: Used) -> None:
        steps, path = self._programs[used.program_id]
        position = Position(self._cell, self._sequence, used.operation * LINES_MAX + used.line)
        self._sheet.usage.append(UsageRow(position, path, used, self._decided_ms))
        status, first, second, *_ = used.outcome
        if status == Status.CHARGED:
            self._charge(position, used, path, steps, second)
        else:
            key = (path, used.usage_ms // DAY_MS, used.endpoint_id, used.service, first, second)
            refusal = self._sheet.refusals.setdefault(key, [0, 0])
            refusal[0] += 1
            refusal[1] += used.quantity

    def _charge(self, position: Position, used: Used, path: str, steps: Sequence[Step], parts: Sequence[Any]) -> None:
        totals, endpoint_id, quantity = self._sheet.totals, used.endpoint_id, used.quantity
        day, network_id, service = used.usage_ms // DAY_MS, used.network_id, used.service
        of_steps = zip(steps, parts, strict=True)
        for number, (step, (benefit, _, uncovered, amount, draws, *_)) in enumerate(of_steps):
            key = (path, day, endpoint_id, network_id, service, number, step.currency)
            total = totals.get(key)
            if total is None:
                totals[key] = [1, quantity, benefit, uncovered, amount]
            else:
                total[0] += 1
                total[1] += quantity
                total[2] += benefit
                total[3] += uncovered
                total[4] += amount
            paid = amount if step.mode is StepMode.PREPAID else 0
            if draws or paid:
                self._take(step, endpoint_id, draws, paid, usage_record_id(position))

    def _take(self, step: Step, endpoint_id: str, draws: Sequence[Any], paid: int, cause: str) -> None:
        """Lower the balances that a step was paid from: buckets, and money."""
        holder_id = step.holder or endpoint_id
        for bucket, quantity, what in draws:
            drawn_from = step.pool if what & Drawn.OF_POOL else holder_id
            self._move(drawn_from, bucket, MovementKind.DRAW, -quantity, cause)
        if paid:
            self._move(holder_id, "", MovementKind.DRAW, -paid, cause)

    def _move(self, holder_id: str, bucket: str, kind: int, change: int, cause: str) -> None:
        balance = balance_id(holder_id, bucket)
        where = (self._cell, self._sequence, self._number)
        self._sheet.entries.append((*where, balance, int(kind), change, cause, self._decided_ms))
        self._number += 1
        known = self._sheet.balances.get(balance)
        self._sheet.balances[balance] = (holder_id, known[1] + change if known else change)


class Folder:
    """Folds the segments of cells.

    Args:
        journal: where segments come from.
        ledger: the books.
        cells: numbers of the cells.
    """

    def __init__(self, journal: Journal, ledger: Ledger, cells: Sequence[int]) -> None:
        self._journal = journal
        self._ledger = ledger
        self._cells = cells
        self._programs: ProgramSteps = {}

    async def run(self) -> None:
        """Fold until cancelled. What cannot be folded now is tried again; a corrupt segment stops its cell."""
        while True:
            folded = 0
            for cell in self._cells:
                try:
                    folded += await self.fold_some(cell)
                except MeterlineError as error:
                    log.warning("cannot fold", cell=cell, reason=error.reason, message=error.message)
                    await asyncio.sleep(RETRY_SECONDS)
                except Exception:
                    log.exception("fold failed", cell=cell)
                    await asyncio.sleep(RETRY_SECONDS)
            if not folded:
                await asyncio.sleep(IDLE_SECONDS)

    async def fold_some(self, cell: int) -> int:
        """Fold the next segments of a cell in one transaction; return how many."""
        cursor = await self._ledger.cursor(cell)
        found = await self._journal.read(cell, cursor.sequence, SEGMENTS_MAX)
        contiguous = [s for number, s in enumerate(found, cursor.sequence + 1) if s.sequence == number]
        if not contiguous:
            return 0
        contents = [self._journal.content(segment) for segment in contiguous]
        await self._learn_programs(contents)
        sheet = Sheet()
        for segment, content in zip(contiguous, contents, strict=True):
            SegmentFold(cell, segment, self._programs, sheet).add(content)
        await self._ledger.post(cell, cursor, contiguous[-1], sheet)
        FOLDED.inc(len(sheet.usage))
        POSITION.labels(cell).set(contiguous[-1].sequence)
        DECIDED.labels(cell).set(contiguous[-1].decided_ms / 1000)
        return len(contiguous)

    async def _learn_programs(self, contents: Sequence[SegmentContent]) -> None:
        if len(self._programs) > PROGRAMS_MAX:
            self._programs.clear()
        unknown = {name for content in contents for name in content.program_ids} - self._programs.keys()
        if unknown:
            for name, body in (await self._journal.programs(unknown)).items():
                steps = steps_from_body(body)
                self._programs[name] = (steps, path_of(steps))
