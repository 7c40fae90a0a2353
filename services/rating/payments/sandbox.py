"""A payment provider that pretends: what a charge leads to stands in the token of the payment method."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.common.clock import SECOND_MS, Clock
from services.common.errors import UnavailableError, invalid
from services.common.ids import new_id
from services.common.money import Money
from services.rating.domain.payments import Confirmed, Declined, Outcome, PaymentMethod, UnknownOutcomeError
from services.rating.payments.minor_units import to_minor_units
from services.rating.storage.tables import sandbox_charges
from services.runtime.database import Database

DELAY_MS_MAX = 300 * SECOND_MS
"""Longest delay that a token may ask for."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a token leads to.

    Attributes:
        code: decline code; empty confirms.
        delay_ms: time to the answer.
        silent: the money moves or not, and the first question gets no answer.
        lost: no charge ever arrives.
        declines_first: charges of the method that are declined before others are confirmed.
    """

    code: str = ""
    delay_ms: int = 0
    silent: bool = False
    lost: bool = False
    declines_first: int = 0


BEHAVIOURS: Mapping[str, Behaviour] = {
    "tok_ok": Behaviour(),
    "tok_declined": Behaviour(code="card_declined"),
    "tok_insufficient_funds": Behaviour(code="insufficient_funds"),
    "tok_timeout_then_confirmed": Behaviour(silent=True),
    "tok_timeout_then_declined": Behaviour(silent=True, code="card_declined"),
    "tok_timeout_then_lost": Behaviour(lost=True),
    "tok_declined_twice_then_ok": Behaviour(declines_first=2),
}
_DELAY = re.compile(r"tok_delay_(\d{1,6})(ms|s)", re.ASCII)


def behaviour_of(token: str) -> Behaviour | None:
    """What a token leads to; None if it is none of the sandbox."""
    if delay := _DELAY.fullmatch(token):
        delay_ms = int(delay[1]) * (SECOND_MS if delay[2] == "s" else 1)
        return Behaviour(delay_ms=delay_ms) if delay_ms <= DELAY_MS_MAX else None
    return BEHAVIOURS.get(token)


class SandboxProvider:
    """Pretends to collect money. Its charges are kept in the ledger's database: a key charges once, whatever ends."""

    name = "sandbox"

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def charge(self, key: str, method: PaymentMethod, amount: Money) -> Outcome:
        """Pretend once for a key, however often it is asked; raises UnknownOutcomeError if the token says so."""
        behaviour = _own_behaviour_of(method)
        if behaviour.lost:
            raise UnknownOutcomeError("sandbox: the charge timed out")
        to_minor_units(amount)
        try:
            async with self._database.transaction() as connection:
                charge, is_first = await self._take(connection, key, method, amount, behaviour)
        except UnavailableError as error:
            raise UnknownOutcomeError(f"sandbox: {error}") from error
        _require_same(charge, method, amount)
        if behaviour.silent and is_first:
            raise UnknownOutcomeError("sandbox: the charge timed out")
        if (wait_ms := charge.created_ms + behaviour.delay_ms - self._clock.now_ms()) > 0:
            await asyncio.sleep(wait_ms / SECOND_MS)
        return _outcome(charge)

    async def find(self, key: str, method: PaymentMethod, amount: Money) -> Outcome | None:
        """What became of a charge; None if it never arrived. Raises UnknownOutcomeError while its delay lasts."""
        behaviour = _own_behaviour_of(method)
        query = sa.select(sandbox_charges).where(sandbox_charges.c.key == key)
        try:
            async with self._database.reading() as connection:
                charge = (await connection.execute(query)).one_or_none()
        except UnavailableError as error:
            raise UnknownOutcomeError(f"sandbox: {error}") from error
        if charge is None:
            return None
        _require_same(charge, method, amount)
        if self._clock.now_ms() < charge.created_ms + behaviour.delay_ms:
            raise UnknownOutcomeError("sandbox: the charge is in progress")
        return _outcome(charge)

    def check(self, method: PaymentMethod) -> None:
        """Refuse a token that the sandbox does not know; any customer will do."""
        if behaviour_of(method.token) is None:
            known = ", ".join((*BEHAVIOURS, "tok_delay_5s"))
            raise invalid("token", f"the sandbox has no such token; send one of {known}", "TOKEN_UNKNOWN")

    def require_payable(self, amount: Money) -> None:
        """Refuse what is not whole minor units above zero."""
        to_minor_units(amount)

    async def aclose(self) -> None:
        """Nothing is held open: the database is its owner's."""

    async def _take(
        self, connection: AsyncConnection, key: str, method: PaymentMethod, amount: Money, behaviour: Behaviour
    ) -> tuple[sa.Row[Any], bool]:
        """The charge of a key and whether it was made now. One at a time, so that counting is right."""
        columns = sandbox_charges.c
        if not self._database.is_sqlite:
            await connection.execute(sa.text("LOCK TABLE sandbox_charge IN SHARE ROW EXCLUSIVE MODE"))
        query = sa.select(sandbox_charges).where(columns.key == key)
        if (known := (await connection.execute(query)).one_or_none()) is not None:
            return known, False
        code = behaviour.code
        if behaviour.declines_first:
            earlier = sa.select(sa.func.count()).where(columns.method_id == method.id, columns.token == method.token)
            if (await connection.execute(earlier)).scalar_one() < behaviour.declines_first:
                code = "card_declined"
        row = {
            "key": key,
            "method_id": method.id,
            "token": method.token,
            "amount_micros": amount.micros,
            "currency": amount.currency,
            "code": code,
            "reference": new_id("sbx"),
            "created_ms": self._clock.now_ms(),
        }
        await connection.execute(sa.insert(sandbox_charges).values(**row))
        return (await connection.execute(query)).one(), True


def _own_behaviour_of(method: PaymentMethod) -> Behaviour:
    """What the token leads to. Of a token that another provider gave, only that one knows what it has taken."""
    if (behaviour := behaviour_of(method.token)) is None:
        raise UnknownOutcomeError("sandbox: the payment method is of another provider")
    return behaviour


def _require_same(charge: sa.Row[Any], method: PaymentMethod, amount: Money) -> None:
    """Raise UnknownOutcomeError where a key comes back with something else: people must see what was taken."""
    if (charge.token, charge.amount_micros, charge.currency) != (method.token, amount.micros, amount.currency):
        raise UnknownOutcomeError("sandbox: the key was used for another charge")


def _outcome(charge: sa.Row[Any]) -> Outcome:
    return Declined(charge.code, charge.reference) if charge.code else Confirmed(charge.reference)
