"""A small world whose books are right; then each kind of wrong is put in, and its check must see it."""

from collections import Counter

import pytest

from cli.charge.stream import Batch
from cli.demo import checks
from cli.demo.answers import Answers
from cli.demo.statement import Level, as_data, by_level, statement_of
from meterline.rating.v1.balances_pb2 import Balance, LedgerEntry, LedgerEntryKind
from meterline.rating.v1.charges_pb2 import Charge, RefusalCount, UsageSummary
from meterline.rating.v1.charging_pb2 import ChargeResult, Outcome, Reason, UsageEvent
from meterline.type.v1.service_pb2 import Service

CHAINS = {"ep_1": ["ent", "res", "op"], "ep_2": ["ent", "res", "op"], "ep_3": ["direct", "op"]}


def charged(*amounts: int, replayed: bool = False) -> ChargeResult:
    return ChargeResult(outcome=Outcome.OUTCOME_CHARGED, amounts_micros=amounts, replayed=replayed, usage_record_id="u")


def refused(step: int = 1) -> ChargeResult:
    return ChargeResult(outcome=Outcome.OUTCOME_REFUSED, reason=Reason.REASON_CREDIT_LIMIT, refused_step=step)


def used(endpoint: str, event: str, quantity: int = 100, service: "Service.ValueType" = Service.SERVICE_DATA):
    return UsageEvent(endpoint_id=endpoint, event_id=event, quantity=quantity, service=service)


@pytest.fixture
def answers() -> Answers:
    answers = Answers()
    events = [used("ep_1", "a"), used("ep_2", "b", 3, Service.SERVICE_SMS_MO), used("ep_3", "c"), used("ep_1", "d")]
    answers.answered(Batch(1, [1, 2, 3, 4], events), [charged(9, 6, 2), charged(5, 4, 1), charged(7, 3), refused()])
    answers.answered(Batch(2, [5], events[:1]), [charged(9, 6, 2, replayed=True)])
    return answers


def summary(step: int, payer: str, payee: str, volume: tuple[int, int, int], micros: int, currency: str = "EUR"):
    records, data, messages = volume
    return UsageSummary(
        step=step,
        payer_id=payer,
        payee_id=payee,
        record_count=records,
        data_bytes=data,
        messages=messages,
        amount_micros=micros,
        currency=currency,
    )


@pytest.fixture
def rows() -> list[UsageSummary]:
    return [
        summary(0, "ent", "ent", (2, 100, 3), 14),
        summary(0, "direct", "direct", (1, 100, 0), 7, "JPY"),
        summary(1, "ent", "res", (2, 100, 3), 10),
        summary(1, "direct", "op", (1, 100, 0), 3),
        summary(2, "res", "op", (2, 100, 3), 3, "USD"),
    ]


def holds(check: checks.Check) -> bool:
    assert check.law
    assert ("WRONG" in check.figures) is False or not check.holds
    return check.holds


def test_right_books_pass_every_check(answers, rows):
    levels = by_level(rows)
    assert holds(checks.every_record_once(answers, 5))
    assert holds(checks.duplicates_are_replays(answers))
    assert holds(checks.volumes_are_equal(levels, str))
    assert holds(checks.books_follow_answers(levels, answers, CHAINS, str))
    assert holds(checks.refusals_follow_answers(Counter({(Reason.REASON_CREDIT_LIMIT, 1): 1}), answers, CHAINS))


def test_an_answer_that_never_came_is_seen(answers):
    assert not holds(checks.every_record_once(answers, 6))


def test_a_refusal_without_reason_is_seen(answers):
    answers.answered(Batch(3, [6], [used("ep_1", "x")]), [ChargeResult(outcome=Outcome.OUTCOME_REFUSED)])
    assert not holds(checks.every_record_once(answers, 6))


def test_an_invalid_record_is_seen(answers):
    answers.answered(Batch(3, [6], [used("ep_1", "x")]), [ChargeResult(outcome=Outcome.OUTCOME_INVALID)])
    assert not holds(checks.every_record_once(answers, 6))


def test_a_duplicate_that_was_decided_anew_is_seen(answers):
    answers.answered(Batch(3, [6], [used("ep_3", "c")]), [charged(7, 3)])
    assert not holds(checks.duplicates_are_replays(answers))


def test_a_replay_with_another_answer_is_seen(answers):
    answers.answered(Batch(3, [6], [used("ep_3", "c")]), [charged(8, 3, replayed=True)])
    assert not holds(checks.duplicates_are_replays(answers))


def test_a_second_run_in_which_all_are_replays_is_right():
    answers = Answers()
    answers.answered(Batch(1, [1, 2], [used("ep_3", "c")] * 2), [charged(7, 3, replayed=True)] * 2)
    assert holds(checks.duplicates_are_replays(answers))
    assert "1 records were in the books before" in checks.duplicates_are_replays(answers).figures


@pytest.mark.parametrize("row", range(5))
@pytest.mark.parametrize("column", ["record_count", "data_bytes", "messages"])
def test_a_volume_that_differs_at_one_level_is_seen(answers, rows, row, column):
    setattr(rows[row], column, getattr(rows[row], column) + 1)
    assert not holds(checks.volumes_are_equal(by_level(rows), str))
    assert not holds(checks.books_follow_answers(by_level(rows), answers, CHAINS, str))


@pytest.mark.parametrize("row", range(5))
def test_one_micro_too_much_is_seen(answers, rows, row):
    rows[row].amount_micros += 1
    assert not holds(checks.books_follow_answers(by_level(rows), answers, CHAINS, str))


def test_a_level_that_is_missing_or_too_many_is_seen(answers, rows):
    assert not holds(checks.books_follow_answers(by_level(rows[1:]), answers, CHAINS, str))
    more = [*rows, summary(2, "res2", "op", (1, 1, 1), 1)]
    assert not holds(checks.books_follow_answers(by_level(more), answers, CHAINS, str))


def test_a_payer_who_pays_less_than_the_payee_gets_is_seen():
    same, other = Counter({"EUR": 10}), Counter({"EUR": 11})
    assert holds(checks.payers_pay_what_payees_get([("a", same, same.copy())]))
    assert not holds(checks.payers_pay_what_payees_get([("a", same, same.copy()), ("b", same, other)]))


def test_a_refusal_that_the_books_forgot_is_seen(answers):
    assert not holds(checks.refusals_follow_answers(Counter(), answers, CHAINS))
    assert not holds(checks.refusals_follow_answers(Counter({(Reason.REASON_CREDIT_LIMIT, 2): 1}), answers, CHAINS))


def steps(**changes: int) -> list[Charge]:
    parties = zip(["ep_1", "ent", "res"], CHAINS["ep_1"], strict=True)
    charges = [
        Charge(
            usage_record_id="u1",
            step=step,
            endpoint_id="ep_1",
            payer_id=payer,
            payee_id=payee,
            quantity=10,
            benefit_quantity=4,
            rated_quantity=6,
            amount_micros=5,
        )
        for step, (payer, payee) in enumerate(parties)
    ]
    for name, value in changes.items():
        setattr(charges[1], name, value)
    return charges


def test_a_whole_chain_is_right():
    assert holds(checks.chains_are_whole({"ep_1": steps()[::-1]}, CHAINS))


@pytest.mark.parametrize(
    "change",
    [{"quantity": 11, "rated_quantity": 7}, {"rated_quantity": 5}, {"step": 2}, {"payee_id": "op"}, {"payer_id": "x"}],
)
def test_a_broken_chain_is_seen(change):
    assert not holds(checks.chains_are_whole({"ep_1": steps(**change)}, CHAINS))


def test_a_chain_that_stops_short_is_seen():
    assert not holds(checks.chains_are_whole({"ep_1": steps()[:2]}, CHAINS))


def test_charges_that_do_not_add_up_to_the_statement_are_seen():
    rows = [UsageSummary(step=step, record_count=1, amount_micros=5) for step in range(3)]
    assert holds(checks.charges_add_up({"ep_1": (steps(), rows)}))
    assert not holds(checks.charges_add_up({"ep_1": (steps(amount_micros=6), rows)}))
    assert not holds(checks.charges_add_up({"ep_1": (steps()[:2], rows)}))


def entry(kind: "LedgerEntryKind.ValueType", change: int) -> LedgerEntry:
    return LedgerEntry(kind=kind, change=change)


def test_a_wallet_moves_by_its_charges():
    balance = Balance(currency="EUR", remaining=90)
    top_up = entry(LedgerEntryKind.LEDGER_ENTRY_KIND_TOP_UP, 100)
    draw = entry(LedgerEntryKind.LEDGER_ENTRY_KIND_DRAW, -10)
    charges = [Charge(amount_micros=4), Charge(amount_micros=6)]
    assert holds(checks.balances_move_by_charges({"w": (balance, [top_up, draw], charges)}))
    assert not holds(checks.balances_move_by_charges({"w": (balance, [top_up, draw], charges[:1])}))
    assert not holds(checks.balances_move_by_charges({"w": (Balance(remaining=91), [top_up, draw], charges)}))


@pytest.mark.parametrize(("used_", "charged_", "good"), [(10, 10, True), (10, 9, False), (12, 12, False)])
def test_credit_is_the_sum_of_charges_within_the_limit(used_, charged_, good):
    balance = Balance(credit_used=used_, credit_limit=11, currency="HUF")
    assert holds(checks.credit_is_kept("d", balance, [Charge(amount_micros=charged_)])) is good


def test_a_statement_tells_revenue_cost_and_margin_by_currency(rows):
    statement = statement_of("res", rows, [RefusalCount(reason=Reason.REASON_CREDIT_LIMIT, step=1, record_count=4)])
    assert statement.volume.volume == (2, 100, 3)
    data = as_data("Reseller", "res", statement)
    assert data["money"] == [
        {"currency": "EUR", "revenue_micros": 10, "cost_micros": 0, "margin_micros": 10},
        {"currency": "USD", "revenue_micros": 0, "cost_micros": 3, "margin_micros": -3},
    ]
    assert data["refused"] == [{"reason": "CREDIT_LIMIT", "step": 1, "count": 4}]


def test_an_enterprise_pays_nothing_to_itself(rows):
    assert statement_of("ent", rows, []).cost == Counter({"EUR": 10})
    assert statement_of("op", rows, []).cost == Counter()


def test_levels_are_summed_over_currencies_and_services(rows):
    assert by_level([rows[0], rows[0]])[Level(0, "ent", "ent")].micros == 28
