"""Money is a whole number of micros (1e-6 of the unit of its currency). No float ever."""

from dataclasses import dataclass

MICROS = 1_000_000
NANOS_A_MICRO = 1000
MAX_MICROS = 2**53 - 1
"""Largest amount: what a Lua number holds exactly."""


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in a currency.

    Attributes:
        currency: ISO 4217 code.
        micros: amount in micros; negative for a credit.
    """

    currency: str
    micros: int

    def __str__(self) -> str:
        return f"{format_micros(self.micros)} {self.currency}"


def format_micros(micros: int) -> str:
    """Write micros as a decimal number with at least two decimals: 1234500 is `1.2345`, 2000000 is `2.00`."""
    sign = "-" if micros < 0 else ""
    whole, fraction = divmod(abs(micros), MICROS)
    return f"{sign}{whole}.{f'{fraction:06d}'.rstrip('0').ljust(2, '0')}"
