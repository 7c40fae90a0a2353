"""Balances and movements of the contract."""

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.money_pb2 import Money as MoneyMessage

from meterline.rating.v1 import balances_pb2, wallets_pb2
from services.common.clock import SECOND_MS
from services.common.errors import invalid
from services.common.money import MAX_MICROS, MICROS, NANOS_A_MICRO, Money
from services.rating.usecases.balances import Balance
from services.rating.usecases.counters import Counter
from services.runtime.amounts import micros_of

VALIDITY_MAX_S = 20 * 366 * 86_400


def timestamp(milliseconds: int) -> Timestamp | None:
    """Write a time; 0 is none."""
    if not milliseconds:
        return None
    time = Timestamp()
    time.FromMilliseconds(milliseconds)
    return time


def money_from_proto(field: str, message: MoneyMessage) -> Money:
    """Read an amount; one that is not whole micros, or too large, is INVALID_ARGUMENT."""
    if message.nanos % NANOS_A_MICRO or abs(message.nanos) >= MICROS * NANOS_A_MICRO:
        raise invalid(f"{field}.nanos", "must be whole micros: a multiple of 1000 below 1,000,000,000")
    if message.units and message.nanos and (message.units > 0) != (message.nanos > 0):
        raise invalid(f"{field}.nanos", "must have the sign of units")
    micros = micros_of(message)
    if abs(micros) > MAX_MICROS:
        raise invalid(f"{field}.units", f"is too large: at most {MAX_MICROS} micros", "AMOUNT_OUT_OF_RANGE")
    return Money(message.currency_code, micros)


def validity_from_proto(field: str, message: balances_pb2.RefillBalanceRequest | wallets_pb2.RefillProduct) -> int:
    """Read how long a refill is valid, in milliseconds; 0 is without end."""
    if not message.HasField("validity"):
        return 0
    if message.validity.nanos or not 0 < message.validity.seconds <= VALIDITY_MAX_S:
        raise invalid(field, "must be whole seconds, more than 0, up to 20 years")
    return message.validity.seconds * SECOND_MS


def balance_to_proto(balance: Balance) -> balances_pb2.Balance:
    """Write a balance."""
    return balances_pb2.Balance(
        id=balance.id,
        endpoint_id=balance.endpoint_id,
        account_id=balance.account_id,
        assignment_id=balance.assignment_id,
        benefit_id=balance.benefit_id,
        unit=balance.unit,  # type: ignore[arg-type]
        currency=balance.currency,
        remaining=balance.remaining,
        reserved=balance.reserved,
        granted=balance.granted,
        state=balance.state,  # type: ignore[arg-type]
        priority=balance.priority,
        activate_time=timestamp(balance.activated_ms),
        expire_time=timestamp(balance.expires_ms),
        credit_used=balance.credit_used,
        credit_limit=balance.credit_limit,
        pool_id=balance.pool_id,
        occurrence=balance.occurrence,
        plan_id=balance.plan_id,
    )


def counter_to_proto(counter: Counter) -> balances_pb2.Counter:
    """Write a counter."""
    return balances_pb2.Counter(
        id=counter.id,
        endpoint_id=counter.endpoint_id,
        account_id=counter.account_id,
        plan_id=counter.of.plan_id,
        name=counter.of.terms.name,
        services=sorted(counter.of.terms.services),  # type: ignore[arg-type]
        unit=counter.of.terms.unit,  # type: ignore[arg-type]
        used=counter.used,
        reserved=counter.reserved,
        limit=counter.of.terms.limit,
        start_time=timestamp(counter.started_ms),
        reset_time=timestamp(counter.resets_ms),
    )


def entry_to_proto(row: Any) -> balances_pb2.LedgerEntry:
    """Write a movement of a balance."""
    return balances_pb2.LedgerEntry(
        id=f"led_{row.cell}.{row.sequence}.{row.number}",
        balance_id=row.balance_id,
        kind=row.kind,
        change=row.change,
        cause_id=row.cause_id,
        create_time=timestamp(row.created_ms),
    )
