"""Money of the contracts, read."""

from google.type.money_pb2 import Money

from services.common.money import MICROS, NANOS_A_MICRO


def micros_of(money: Money) -> int:
    """Read an amount in micros (1e-6 of the currency's unit); what is finer is left off."""
    micros: int = money.units * MICROS + money.nanos // NANOS_A_MICRO
    return micros
