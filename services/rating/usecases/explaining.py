"""Says in sentences why a charge is what it is, for people who answer customers."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from services.common.money import format_micros
from services.rating.domain.balances import Drawn, balance_id
from services.rating.domain.compiling import REPLACED
from services.rating.domain.limits import counted_by
from services.rating.domain.measuring import Measure, UseRounding
from services.rating.domain.periods import DAILY, WEEKLY, Clock, Period
from services.rating.domain.pricing import NO_BOUND, Action, Cap, Component, Meter, Pricing, Rounding, Tier, TierMode
from services.rating.domain.programs import Step, StepMode
from services.rating.domain.reasons import Service
from services.rating.domain.tariffs import EXACT_MAX

if TYPE_CHECKING:
    from services.rating.usecases.books import Charge

_ROUNDING = {
    Rounding.UP: "up", Rounding.HALF_UP: "half up", Rounding.DOWN: "down", Rounding.HALF_EVEN: "half to even"
}  # fmt: skip
_ACTIONS = {
    Action.CHARGE: "",
    Action.FREE: "",
    Action.THROTTLE: ", slowed down",
    Action.BLOCK: ", where use does not pass",
}


def sentences_of(charge: "Charge", step: Step, clocks: Sequence[Clock]) -> tuple[int, list[str]]:
    """The rated quantity as a simple price rounded it (0 if it was none), and the sentences."""
    unit = "bytes" if Service(charge.record.service) in {Service.DATA, Service.NB_IOT} else "messages"
    plan_id, version = step.plan
    mode = "prepaid" if step.mode is StepMode.PREPAID else "postpaid"
    used = f"{charge.record.quantity} {unit} on {charge.record.network_id}"
    plan = f"by plan {plan_id} version {version} ({mode})" if plan_id else "without a plan"
    told = [f"{charge.payee_id} charges {charge.payer_id} for {used}, {plan}."]
    told += _volumes(charge, step, unit)
    rounded = 0
    is_counted = step.pricing and any(part.counter in charge.counts for part in step.pricing.components)
    is_priced = charge.rated or _price(charge) or is_counted
    if is_priced and step.rate and not step.tariff[0]:
        told.append(f"{charge.rated} {unit} are free: the plan is a subscription without limits.")
    elif is_priced and step.rate:
        rounded = step.rate.blocks(charge.rated) * step.rate.increment
        told.append(_simple(charge, step, unit, rounded))
    elif charge.rated and not step.tariff[0]:
        told.append(f"{charge.rated} {unit} passed slowed down at no price: nothing is left, and the plan throttles.")
    elif is_priced and step.pricing:
        told += _counted(charge, step, unit, clocks)
    elif step.pricing and _owes_fees(charge, step.pricing):
        told.append(f"Fees of {_priced_by(step)} that benefits do not cover were not charged: nothing could pay them.")
    told += _moneys(charge)
    if charge.uncovered:
        told.append(f"{charge.uncovered} {unit} were covered by nothing ({_why_uncovered(step)}).")
    return rounded, told


def _why_uncovered(step: Step) -> str:
    counted = [counted_by(limit.counter)[1] for limit in step.limits if limit.limit]
    limits = f", or the limit of counter {' or '.join(map(repr, counted))}" if counted else ""
    return f"{step.no_rate.name} or no balance{limits}"


def _volumes(charge: "Charge", step: Step, unit: str) -> Iterator[str]:
    volumes = [draw for draw in charge.draws if not draw[2] & Drawn.OF_MONEY]
    for bucket, quantity, what in volumes:
        yield f"{quantity} {unit} came from balance {balance_id('', bucket)}{_how(what, ',')} at no further price."
    drawn = {bucket.rpartition(".")[2].partition("~")[0] for bucket, _, _ in volumes}
    for measure in step.measures:
        benefit = measure.ref.rpartition(":")[2]
        if benefit in drawn:
            yield f"Benefit {benefit} of {_plan_of(measure)} covers use like this: {_drawn(measure, unit)}."
    if charge.benefit and not drawn:
        yield f"{charge.benefit} {unit} were covered by what the session had drawn before: the rest of its last block."


def _plan_of(measure: Measure) -> str:
    plan, version, _ = measure.ref.replace(REPLACED, "").split(":")
    return f"plan pln_{plan}" if version == "*" else f"plan pln_{plan} version {version}"


def _drawn(measure: Measure, unit: str) -> str:
    rounding = measure.rounding
    blocks = [_measured(rounding, ())] if rounding.increment > 1 or rounding.minimum > 1 else []
    weight = [f"{measure.drawn} are drawn for each {measure.per} {unit}"] if measure.drawn != measure.per else []
    return ", and ".join([*blocks, *weight])


def _how(what: int, end: str) -> str:
    """What is to be said of a draw, between commas."""
    if what & Drawn.LATE:
        return f", of what was left of it when the time of this use ended{end}"
    return f", activated by this first use{end}" if what & Drawn.ACTIVATED else ""


def _moneys(charge: "Charge") -> Iterator[str]:
    drawn = 0
    for bucket, quantity, what in charge.draws:
        if not what & Drawn.OF_MONEY:
            continue
        drawn += quantity
        yield (
            f"{format_micros(quantity)} {charge.currency} of the price were paid from balance "
            f"{balance_id('', bucket)}{_how(what, '')}."
        )
    if drawn:
        yield f"{format_micros(charge.amount)} {charge.currency} of the price were left to pay."


def _where(step: Step) -> str:
    return f"zone {step.zone_id}" if step.zone_id else "the default zone"


def _priced_by(step: Step) -> str:
    tariff_id, version = step.tariff
    return f"tariff {tariff_id} version {version}, rate {step.rate_id}"


def _simple(charge: "Charge", step: Step, unit: str, rounded: int) -> str:
    rate = step.rate
    assert rate is not None  # noqa: S101 - the caller looked
    return (
        f"{charge.rated} {unit} were priced by {_priced_by(step)} of {_where(step)}: rounded up to {rounded} "
        f"({rate.blocks(charge.rated)} x {rate.increment}), at {Fraction(rate.numerator, rate.denominator)} micros "
        f"each {rate.increment}, that is {format_micros(_price(charge))} {charge.currency}, rounded up once, "
        "to the micro."
    )


def _price(charge: "Charge") -> int:
    """What is left to pay, and what buckets of money paid."""
    return charge.amount + sum(quantity for _, quantity, what in charge.draws if what & Drawn.OF_MONEY)


def _owes_fees(charge: "Charge", pricing: Pricing) -> bool:
    """Whether a use that benefits cover, and that nothing priced or counted, has fees that they do not cover."""
    fees = [part for part in pricing.components if part.covered]
    return charge.benefit > 0 and any(part.price(1)[0] for part in fees if part.meter is Meter.RECORDS)


def _counted(charge: "Charge", step: Step, unit: str, clocks: Sequence[Clock]) -> Iterator[str]:
    pricing = step.pricing
    assert pricing is not None  # noqa: S101 - the caller looked
    components = [part for part in pricing.components if charge.rated or part.covered or not charge.benefit]
    parts = len(components)
    what = (
        "Fees that benefits do not cover were" if charge.benefit and not charge.rated else f"{charge.rated} {unit} were"
    )
    yield (
        f"{what} priced by {_priced_by(step)}, as the sum of {parts} "
        f"part{'s' if parts > 1 else ''}{f' within {len(pricing.caps)} cap(s)' if pricing.caps else ''}: "
        f"{format_micros(_price(charge))} {charge.currency} in all."
    )
    for part in components:
        yield _part(part, charge, unit, clocks)
    for cap in pricing.caps:
        yield _cap(cap, charge, clocks)


def _over(period: int, owner: str, clocks: Sequence[Clock]) -> str:
    """Over what a count runs, and whose."""
    if period == Period.RECORD:
        return "by itself, for each use"
    whose = f"of all endpoints of {owner} together" if owner else "of the endpoint"
    return f"over the {_scope(period, clocks)}, {whose}"


def _scope(period: int, clocks: Sequence[Clock]) -> str:
    if period == Period.SESSION:
        return "session"
    return _period(clocks[period - 1]) if period <= len(clocks) else "day or billing cycle"


def _period(clock: Clock) -> str:
    if clock.window_s:
        return f"window of {clock.window_s} seconds from its first use"
    if clock.day == 1:
        return f"month ({clock.time_zone})"
    if clock.day > DAILY:
        return f"billing cycle (from day {clock.day}, {clock.time_zone})"
    return f"{'week from Monday' if clock.day == WEEKLY else 'day'} ({clock.time_zone})"


def _part(part: Component, charge: "Charge", unit: str, clocks: Sequence[Clock]) -> str:
    uses = "uses (those that benefits cover, too)" if part.covered else "uses"
    meter = {Meter.QUANTITY: unit, Meter.RECORDS: uses, Meter.COST: "micros of the visited network's price"}[part.meter]
    notes = []
    if part.free:
        notes.append(f"the first {part.free} are free")
    if part.each:
        notes.append(_measured(part.each, clocks))
    if part.minimum > 1:
        notes.append(f"at least {part.minimum} are counted")
    if part.increment > 1:
        notes.append(f"in whole blocks of {part.increment}")
    if part.window_most:
        notes.append(f"a window also ends once it holds {part.window_most}")
    if part.lowest:
        notes.append(f"at least {format_micros(part.lowest)} {charge.currency}")
    if part.highest != NO_BOUND:
        notes.append(f"at most {format_micros(part.highest)} {charge.currency}")
    price = "; ".join(_tiers(part, meter, charge.currency))
    extra = f" ({', '.join(notes)})" if notes else ""
    unit_of_price = "the micro" if part.unit == 1 else f"{format_micros(part.unit)} {charge.currency}"
    return (
        f"Part {part.id} counts {meter} {_over(part.period, part.owner, clocks)}{extra}: {price}; "
        f"what the count cost before is taken off, and the whole is rounded {_ROUNDING[part.rounding]} "
        f"to {unit_of_price}.{_stood(part, charge)}"
    )


def _stood(part: Component, charge: "Charge") -> str:
    """Where a count stood before a use and after it, and what that costs."""
    if part.counter not in charge.counts:
        return ""
    before, after = (
        f"{count} ({format_micros(part.price(count)[0])} {charge.currency})" if count else "0"
        for count in charge.counts[part.counter]
    )
    return f" The count went from {before} to {after}."


def _measured(rounding: UseRounding, clocks: Sequence[Clock]) -> str:
    """How what is used is measured before it is counted or drawn."""
    whose = "each use"
    if rounding.counter:
        is_session = rounding.period == Period.SESSION
        whose = (
            "what a session uses" if is_session else f"what the endpoint uses in a {_scope(rounding.period, clocks)}"
        )
    blocks = [f"whole blocks of {rounding.increment}"] if rounding.increment > 1 else []
    least = [f"at least {rounding.minimum}"] if rounding.minimum > 1 else []
    most = [f"at most {rounding.maximum}"] if rounding.maximum < EXACT_MAX else []
    return f"{whose} counts as {' and '.join(least + blocks + most)}"


def _tiers(part: Component, meter: str, currency: str) -> Iterator[str]:
    start = 0
    for tier in part.tiers:
        end = tier.blocks_max * part.increment
        if len(part.tiers) == 1 and not end:
            where = "all"
        elif part.mode is TierMode.VOLUME:
            where = f"all, while the count is up to {end}" if end else f"all, once the count is over {start}"
        else:
            where = f"from {start} up to {end}" if end else f"above {start}"
        yield f"{where} at {_tier(tier, part, meter, currency)}{_ACTIONS[tier.action]}"
        start = end


def _tier(tier: Tier, part: Component, meter: str, currency: str) -> str:
    flat = f"{format_micros(tier.flat)} {currency} flat" if tier.flat else ""
    if not tier.numerator:
        return flat or "no price"
    each = f"{Fraction(tier.numerator, part.denominator)} micros each {part.increment} {meter}"
    return f"{flat} and {each}" if flat else each


def _cap(cap: Cap, charge: "Charge", clocks: Sequence[Clock]) -> str:
    beyond = {
        Action.CHARGE: "what is over it is free",
        Action.FREE: "what is over it is free",
        Action.THROTTLE: "what is over it is free and slowed down",
        Action.BLOCK: "use over it does not pass",
    }[cap.action]
    amount = f"{format_micros(cap.amount)} {charge.currency}"
    told = f"Cap {cap.id}: uses cost at most {amount} {_over(cap.period, cap.owner, clocks)}; {beyond}."
    if cap.counter not in charge.counts:
        return told
    before, after = map(format_micros, charge.counts[cap.counter])
    return f"{told} Without it they had cost {before} before this use, {after} with it."
