"""Names of the parts of a tariff: what a part has counted goes by its name, so it keeps it from version to version."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import TypeVar

from services.catalog.domain.components import PriceComponent, SpendingCap
from services.catalog.domain.tariffs import Rate, Tariff
from services.common.errors import invalid

T = TypeVar("T")
Likeness = Callable[[T], Hashable]
"""What two parts have in common if one follows the other."""

RATE_LIKENESSES: Sequence[Likeness[Rate]] = (
    lambda rate: (rate.services, rate.access_types, rate.places, rate.time_bands),
    lambda rate: (rate.services, rate.access_types),
)
COMPONENT_LIKENESSES: Sequence[Likeness[PriceComponent]] = (
    lambda part: (part.counts, part.counter),
    lambda part: (part.scope, part.meter),
)
CAP_LIKENESSES: Sequence[Likeness[SpendingCap]] = (
    lambda cap: (cap.scope, cap.window_s, cap.counted_per, cap.services, cap.rate_ids),
    lambda cap: (cap.scope, cap.window_s, cap.counted_per, cap.services),
    lambda cap: (cap.scope, cap.window_s, cap.counted_per),
    lambda cap: (cap.scope, cap.counted_per),
)


def with_names(tariff: Tariff, earlier: Sequence[Tariff] = ()) -> Tariff:
    """Give names to the parts that have none: that of the part which they follow, or a new one.

    Args:
        tariff: a draft.
        earlier: what it follows, newest first: the draft as it was, and the version that is published.

    Raises:
        InvalidArgumentError: RATE_ID_TWICE and the like where two parts share a name.
    """
    version = tariff.version
    known = [rate for each in earlier for rate in each.rates]
    rates = []
    rate_ids = _ids(tariff.rates, "rate_id", "r", version, known, RATE_LIKENESSES, "tariff.rates")
    for index, (rate, rate_id) in enumerate(zip(tariff.rates, rate_ids, strict=True)):
        parts = [part for other in known if other.rate_id == rate_id for part in other.components]
        field = f"tariff.rates[{index}].components"
        ids = _ids(rate.components, "component_id", "c", version, parts, COMPONENT_LIKENESSES, field)
        components = tuple(replace(part, component_id=name) for part, name in zip(rate.components, ids, strict=True))
        rates.append(replace(rate, rate_id=rate_id, components=components))
    caps = [cap for each in earlier for cap in each.spending_caps]
    cap_ids = _ids(tariff.spending_caps, "cap_id", "s", version, caps, CAP_LIKENESSES, "tariff.spending_caps")
    named_caps = tuple(replace(cap, cap_id=name) for cap, name in zip(tariff.spending_caps, cap_ids, strict=True))
    return replace(tariff, rates=tuple(rates), spending_caps=named_caps)


def named(ids: list[str], letter: str, field: str, part: str, reserved: frozenset[str] = frozenset()) -> list[str]:
    """Fill empty ids with `letter` and a free number; INVALID_ARGUMENT where one stands twice.

    Args:
        ids: as the caller gave them.
        letter: what given names begin with.
        field: path of the list in the request.
        part: name of the id's field.
        reserved: names that are not given.
    """
    taken: set[str] = set()
    for index, given in enumerate(ids):
        if given and given in taken:
            raise invalid(f"{field}[{index}].{part}", f"{given!r} stands twice", f"{part.upper()}_TWICE")
        taken.add(given)
    free = (f"{letter}{number}" for number in range(1, 2 * len(ids) + len(reserved) + 2))
    unused = (candidate for candidate in free if candidate not in taken and candidate not in reserved)
    return [given or next(unused) for given in ids]


def _ids(
    parts: Sequence[T],
    part: str,
    letter: str,
    version: int,
    known: Sequence[T],
    likenesses: Sequence[Likeness[T]],
    field: str,
) -> list[str]:
    """Names of parts. A new one bears the version that it came with, so that it never counts on for one that went."""
    ids: list[str] = [getattr(each, part) for each in parts]
    for likeness in likenesses:
        for index, each in enumerate(parts):
            if not ids[index]:
                names = (getattr(other, part) for other in known if likeness(other) == likeness(each))
                ids[index] = next((name for name in names if name not in ids), "")
    prefix = letter if version == 1 else f"v{version}{letter}"
    return named(ids, prefix, field, part, frozenset(getattr(other, part) for other in known))
