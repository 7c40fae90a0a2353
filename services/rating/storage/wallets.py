"""Payment methods, auto-refill rules and payments, as rows beside the books."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, fields
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.common.identity import path_text
from services.common.pages import PageRequest
from services.rating.domain.happenings import Happening
from services.rating.domain.payments import Payment, PaymentMethod, PaymentState
from services.rating.domain.refills import Rule, Source
from services.rating.storage.tables import balances, events, payment_methods, payments, refill_rules
from services.runtime.database import Database

K = TypeVar("K", PaymentMethod, Rule, Payment)
TABLES: Mapping[type, sa.Table] = {PaymentMethod: payment_methods, Rule: refill_rules, Payment: payments}


class Wallets:
    """Reads and changes what belongs to payments. A change names the version that it was decided on."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes."""
        async with self._database.transaction() as connection:
            yield connection

    async def get(self, kind: type[K], name: str, connection: Any = None) -> K | None:
        """A method, rule or payment; locked until the end of the transaction, if one is given."""
        query = sa.select(TABLES[kind]).where(TABLES[kind].c.id == name)
        if connection is not None:
            row = (await connection.execute(query.with_for_update())).one_or_none()
        else:
            async with self._database.reading() as reading:
                row = (await reading.execute(query)).one_or_none()
        return _read(kind, row) if row is not None else None

    async def list(self, kind: type[K], under: str, equal: Mapping[str, Any], page: PageRequest) -> Sequence[K]:
        """Up to `page.size + 1` of a kind whose owner's path begins with `under`, oldest first."""
        table = TABLES[kind]
        query = sa.select(table).where(table.c.owner_path.startswith(under, autoescape=True))
        query = query.where(*(table.c[name] == value for name, value in equal.items()))
        if page.after:
            query = query.where(table.c.id > str(page.after[0]))
        async with self._database.reading() as connection:
            rows = await connection.execute(query.order_by(table.c.id).limit(page.size + 1))
            return [_read(kind, row) for row in rows]

    async def add(self, thing: PaymentMethod | Rule | Payment, connection: Any) -> bool:
        """Add a new one; false if what must be unique is there already."""
        insert = self._database.insert(TABLES[type(thing)]).values(_row(thing)).on_conflict_do_nothing()
        return bool((await connection.execute(insert)).rowcount)

    async def change(self, thing: PaymentMethod | Rule | Payment, connection: Any) -> bool:
        """Put the next version of one in its place; false if it has changed meanwhile, or is gone."""
        table = TABLES[type(thing)]
        here = sa.and_(table.c.id == thing.id, table.c.version == thing.version - 1)
        return bool((await connection.execute(sa.update(table).where(here).values(_row(thing)))).rowcount)

    async def remove(self, thing: PaymentMethod | Rule, connection: Any) -> None:
        """Remove one."""
        table = TABLES[type(thing)]
        await connection.execute(sa.delete(table).where(table.c.id == thing.id))

    async def method_is_used(self, name: str, connection: Any) -> bool:
        """Whether a rule names a payment method, or a payment with it is open."""
        by_rule = sa.select(refill_rules.c.id).where(refill_rules.c.method_id == name)
        by_payment = sa.select(payments.c.id).where(payments.c.method_id == name, payments.c.next_ms > 0)
        return (await connection.execute(sa.union_all(by_rule, by_payment).limit(1))).first() is not None

    async def due_payments(self, now_ms: int, count: int) -> Sequence[Payment]:
        """Open payments that are to be looked after by now."""
        due = sa.and_(payments.c.next_ms > 0, payments.c.next_ms <= now_ms)
        query = sa.select(payments).where(due).order_by(payments.c.next_ms).limit(count)
        async with self._database.reading() as connection:
            return [_read(Payment, row) for row in await connection.execute(query)]

    async def low_rules(self, now_ms: int, after: str, count: int) -> Sequence[Rule]:
        """Rules after an id that may begin a payment: their balances are below the threshold in the books."""
        rules = refill_rules.c
        remaining = sa.func.coalesce(balances.c.remaining, 0)
        query = (
            sa.select(refill_rules)
            .outerjoin(balances, balances.c.id == rules.balance_id)
            .where(rules.id > after)
            .where(rules.enabled, ~rules.in_flight, rules.stop_reason == "", rules.not_before_ms <= now_ms)
            .where(remaining < rules.threshold_micros + rules.threshold_quantity)  # one of the two is 0
            .order_by(rules.id)
            .limit(count)
        )
        async with self._database.reading() as connection:
            return [_read(Rule, row) for row in await connection.execute(query)]

    async def tell(self, happening: Happening, connection: Any) -> None:
        """Put an event beside those of the fold."""
        await connection.execute(sa.insert(events).values(asdict(happening)))


def _row(thing: PaymentMethod | Rule | Payment) -> dict[str, Any]:
    return {**asdict(thing), "owner_path": path_text(thing.owner_path)}


def _read(kind: type[K], row: Any) -> K:
    values = {field.name: getattr(row, field.name) for field in fields(kind)}
    values["owner_path"] = tuple(row.owner_path.strip("/").split("/"))
    if kind is Rule:
        values["source"] = Source(values["source"])
    if kind is Payment:
        values["state"] = PaymentState(values["state"])
    return kind(**values)
