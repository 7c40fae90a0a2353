"""The demo checks itself: nothing lost, nothing twice, equal volumes at every step, money conserved."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cli.demo.answers import Answers, Chain
from cli.demo.statement import Entry, Level
from meterline.rating.v1.balances_pb2 import Balance, LedgerEntry, LedgerEntryKind
from meterline.rating.v1.charges_pb2 import Charge, UsageSummary
from meterline.rating.v1.charging_pb2 import Outcome
from services.common.money import format_micros

EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Check:
    """A law and whether it held.

    Attributes:
        law: in a sentence.
        figures: what was counted.
        holds: whether it held.
    """

    law: str
    figures: str
    holds: bool


def every_record_once(answers: Answers, sent: int) -> Check:
    """Every record is charged once or refused with a reason."""
    outcomes = answers.outcomes()
    charged, refused = outcomes[Outcome.OUTCOME_CHARGED], outcomes[Outcome.OUTCOME_REFUSED]
    unreasoned = sum(r.outcome == Outcome.OUTCOME_REFUSED and not r.reason for r in answers.results.values())
    unique = len(answers.results)
    return Check(
        "every record is charged once or refused with a reason",
        f"{answers.lines.total():,} of {sent:,} answered, {unique:,} different: {charged:,} charged,"
        f" {refused:,} refused ({unreasoned:,} without reason), {unique - charged - refused:,} invalid",
        answers.lines.total() == sent and charged + refused == unique and not unreasoned,
    )


def duplicates_are_replays(answers: Answers) -> Check:
    """A repeated record gets the first answer, marked as a replay, and is not decided again."""
    repeated = sum(count - 1 for count in answers.lines.values())
    replayed = sum(min(answers.replays[key], count - 1) for key, count in answers.lines.items())
    before = sum(answers.replays[key] >= count for key, count in answers.lines.items())
    return Check(
        "a duplicate gets the answer of the original",
        f"{replayed:,} of {repeated:,} duplicates answered as replays, {len(answers.contradictions):,} contradictions;"
        f" {before:,} records were in the books before this run",
        replayed == repeated and not answers.contradictions,
    )


def volumes_are_equal(levels: Mapping[Level, Entry], names: Callable[[str], str]) -> Check:
    """What an account sells it has bought: records, bytes and messages."""
    sold: defaultdict[str, Counter[int]] = defaultdict(Counter)
    bought: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for level, entry in levels.items():
        sold[level.payee].update(dict(enumerate(entry.volume)))
        if level.step:
            bought[level.payer].update(dict(enumerate(entry.volume)))
    wrong = [names(account) for account in bought if sold[account] != bought[account]]
    used, delivered = Counter[int](), Counter[int]()
    for level, entry in levels.items():
        if level.step == 0:
            used.update(dict(enumerate(entry.volume)))
    for account, volume in sold.items():
        if account not in bought:
            delivered.update(volume)
    return Check(
        "the same volume at every step",
        f"used: {used[1]:,} bytes and {used[2]:,} messages in {used[0]:,} records;"
        f" sold at the top: {delivered[1]:,}, {delivered[2]:,} and {delivered[0]:,}" + _but(wrong),
        used == delivered and not wrong,
    )


def books_follow_answers(
    levels: Mapping[Level, Entry], answers: Answers, chains: Mapping[str, Chain], names: Callable[[str], str]
) -> Check:
    """The sums in the books are the sums of the answers, at each level."""
    expected = answers.books(chains)
    wrong = [
        f"step {level.step} {names(level.payer)} to {names(level.payee)}"
        for level in expected.keys() | levels.keys()
        if expected.get(level) != levels.get(level)
    ]
    return Check(
        "the books say what was answered",
        f"{sum(entry.records for entry in levels.values()):,} charges at {len(levels)} levels, to the micro"
        + _but(wrong),
        not wrong,
    )


def refusals_follow_answers(told: Counter[tuple[int, int]], answers: Answers, endpoints: Iterable[str]) -> Check:
    """The refusals in the books are those of the answers."""
    answered = answers.refusals(endpoints)
    return Check(
        "the books count the refusals that were answered",
        f"{told.total():,} in the books, {answered.total():,} answered, for {len(answered)} reasons and steps",
        told == answered,
    )


def payers_pay_what_payees_get(pairs: Sequence[tuple[str, Counter[str], Counter[str]]]) -> Check:
    """What an account sees as its cost is what its parent sees as revenue from it.

    Args:
        pairs: a name, its cost as its own key shows it, the revenue from it as its parent's key shows it.
    """
    total: Counter[str] = Counter()
    for _, cost, _ in pairs:
        total.update(cost)
    wrong = [name for name, cost, revenue in pairs if cost != revenue]
    money = ", ".join(f"{format_micros(micros)} {currency}" for currency, micros in sorted(total.items()) if currency)
    return Check("what payers pay is what payees get", f"{money} between {len(pairs)} pairs" + _but(wrong), not wrong)


def charges_add_up(whose: Mapping[str, tuple[Sequence[Charge], Sequence[UsageSummary]]]) -> Check:
    """The single charges of a payer or an endpoint add up to its sums."""
    wrong, count = [], 0
    for owner, (charges, rows) in whose.items():
        listed: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])
        summed: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])
        for charge in charges:
            listed[charge.step][0] += 1
            listed[charge.step][1] += charge.amount_micros
        for row in rows:
            summed[row.step][0] += row.record_count
            summed[row.step][1] += row.amount_micros
        count += len(charges)
        if listed != summed:
            wrong.append(owner)
    figures = f"{count:,} charges of {len(whose)} endpoints and accounts"
    return Check("a statement is the sum of its charges", figures + _but(wrong), not wrong)


def chains_are_whole(charges_by_endpoint: Mapping[str, Sequence[Charge]], chains: Mapping[str, Chain]) -> Check:
    """Each record has one charge a step, of the same volume, and each payee is the next payer."""
    records: defaultdict[str, list[Charge]] = defaultdict(list)
    for charges in charges_by_endpoint.values():
        for charge in charges:
            records[charge.usage_record_id].append(charge)
    wrong = [record for record, charges in records.items() if not _is_whole(charges, chains)]
    return Check(
        "one charge a step, and each payee is the next payer",
        f"{len(records):,} records of {len(charges_by_endpoint)} endpoints" + _but(wrong),
        not wrong,
    )


def _is_whole(charges: list[Charge], chains: Mapping[str, Chain]) -> bool:
    charges.sort(key=lambda charge: charge.step)
    endpoint = charges[0].endpoint_id
    chain = list(chains[endpoint])
    return (
        [charge.step for charge in charges] == list(range(len(chain)))
        and [charge.payee_id for charge in charges] == chain
        and [charge.payer_id for charge in charges] == [endpoint, *chain[:-1]]
        and len({charge.quantity for charge in charges}) == 1
        and all(c.quantity == c.benefit_quantity + c.rated_quantity + c.uncovered_quantity for c in charges)
    )


def balances_move_by_charges(
    wallets: Mapping[str, tuple[Balance, Sequence[LedgerEntry], Sequence[Charge]]],
) -> Check:
    """A prepaid balance went down by exactly its charges, and its entries add up to what is left."""
    wrong = []
    drawn_in_all: Counter[str] = Counter()
    for owner, (balance, entries, charges) in wallets.items():
        drawn = -sum(entry.change for entry in entries if entry.kind == LedgerEntryKind.LEDGER_ENTRY_KIND_DRAW)
        charged = sum(charge.amount_micros for charge in charges)
        drawn_in_all[balance.currency] += drawn
        if drawn != charged or sum(entry.change for entry in entries) != balance.remaining:
            wrong.append(f"{owner} (drawn {format_micros(drawn)}, charged {format_micros(charged)})")
    money = ", ".join(f"{format_micros(micros)} {currency}" for currency, micros in sorted(drawn_in_all.items()))
    figures = f"{money} drawn from {len(wallets)} prepaid balances"
    return Check("a prepaid balance moves by its charges", figures + _but(wrong), not wrong)


def credit_is_kept(name: str, balance: Balance, charges: Sequence[Charge]) -> Check:
    """What an account owes is the sum of its charges and within its limit."""
    charged = sum(charge.amount_micros for charge in charges)
    used, limit = format_micros(balance.credit_used), format_micros(balance.credit_limit)
    return Check(
        "a credit limit holds",
        f"{name} owes {used} of {limit} {balance.currency}; charged {format_micros(charged)}",
        balance.credit_used == charged <= balance.credit_limit,
    )


def _but(wrong: Sequence[str]) -> str:
    if not wrong:
        return ""
    return f"; WRONG for {len(wrong)}: {', '.join(wrong[:EXAMPLES])}"


def failed(checks: Iterable[Check]) -> Iterator[Check]:
    """Those that did not hold."""
    return (check for check in checks if not check.holds)
