import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.__main__ import main

HEADER = "event_id,endpoint_id,service,network_id,access_type,usage_time,quantity,mode"


def record(event_id: str, endpoint_id: str = "ep_1", service: str = "DATA") -> str:
    return f"{event_id},{endpoint_id},{service},net_20601,4G,2025-10-31T10:00:00Z,1000,ONLINE"


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, list(arguments), input=stdin)


def charge(options, tmp_path, *lines: str, header: str = HEADER) -> tuple[int, dict[str, Any]]:
    file = tmp_path / "usage.csv"
    file.write_text("\n".join([header, *lines]))
    result = run("charge", str(file), "--json", *options)
    return result.exit_code, json.loads(result.stdout) if result.stdout else {"error": result.stderr}


def test_a_clean_file_is_charged_and_summed_up_by_step(options, tmp_path):
    status, summary = charge(options, tmp_path, *(record(f"e{n}") for n in range(1200)))
    assert status == 0
    assert (summary["records"], summary["accepted"], summary["replayed"]) == (1200, 1200, 0)
    assert summary["levels"] == [
        {"step": 0, "currency": "EUR", "amount_micros": 1_200_000, "cost_micros": 0, "margin_micros": 1_200_000},
        {"step": 0, "currency": "USD", "amount_micros": 0, "cost_micros": 480_000, "margin_micros": -480_000},
        {"step": 1, "currency": "USD", "amount_micros": 480_000, "cost_micros": 0, "margin_micros": 480_000},
    ]


def test_the_margin_of_a_level_is_its_amount_less_that_of_the_next(options, tmp_path, rating):
    rating.currencies = ("EUR", "EUR")
    _, summary = charge(options, tmp_path, record("e1"))
    assert [(level["step"], level["margin_micros"]) for level in summary["levels"]] == [(0, 600), (1, 400)]


def test_a_file_sent_twice_is_answered_twice_and_charged_once(options, tmp_path, rating):
    lines = [record(f"e{n}") for n in range(10)]
    charge(options, tmp_path, *lines)
    status, summary = charge(options, tmp_path, *lines)
    assert status == 0
    assert (summary["accepted"], summary["replayed"], summary["levels"]) == (10, 10, [])
    assert len(rating.answered) == 10


def test_bad_lines_are_counted_with_their_numbers_and_do_not_stop_the_rest(options, tmp_path):
    status, summary = charge(
        options, tmp_path, record("e1"), "nonsense", record("bad1"), record("no1"), record("e2", service="VOICE")
    )
    assert status == 1
    assert (summary["accepted"], summary["refused"], summary["invalid"]) == (1, 1, 3)
    assert summary["refused_by"] == [{"reason": "CREDIT_LIMIT", "step": 1, "count": 1}]
    invalid = {row["reason"]: row for row in summary["invalid_by"]}
    assert invalid["FIELD_INVALID"]["lines"] == [3, 6]
    assert invalid["NETWORK_NOT_FOUND"]["lines"] == [4]


def test_only_the_first_few_bad_lines_are_named(options, tmp_path):
    _, summary = charge(options, tmp_path, *["?"] * 20)
    assert summary["invalid_by"][0]["count"] == 20
    assert summary["invalid_by"][0]["lines"] == [2, 3, 4, 5, 6]


def test_uncovered_volume_is_told_by_unit(options, tmp_path):
    _, summary = charge(options, tmp_path, record("free1"), record("free2", service="SMS_MO"))
    assert (summary["uncovered_bytes"], summary["uncovered_messages"]) == (7, 7)


def test_a_duplicate_in_the_file_adds_no_money(options, tmp_path):
    _, summary = charge(options, tmp_path, record("e1"), record("e1"))
    assert (summary["accepted"], summary["replayed"]) == (2, 1)
    assert summary["levels"][0]["amount_micros"] == 1000


def test_standard_input_and_json_lines_work_too(options):
    line = json.dumps(dict(zip(HEADER.split(","), record("e1").split(","), strict=True)))
    result = run("charge", "-", "--json", *options, stdin=f"{line}\n")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["accepted"] == 1


def test_people_get_a_table_and_no_progress_bar_in_a_pipe(options, tmp_path):
    file = tmp_path / "usage.csv"
    file.write_text(f"{HEADER}\n{record('e1')}\n{record('no1')}\nx\n")
    result = run("charge", str(file), *options)
    assert result.exit_code == 1
    for part in ("accepted", "CREDIT_LIMIT", "step 1, enterprise to its parent", "line 4", "margin", "EUR"):
        assert part in result.stdout
    assert result.stderr == ""


def test_a_key_that_may_only_charge_gets_amounts_without_currency(options, tmp_path, rating):
    rating.reads_are_forbidden = True
    _, summary = charge(options, tmp_path, record("e1"))
    assert [level["currency"] for level in summary["levels"]] == ["", ""]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("charge", "missing.csv"), "cannot read missing.csv"),
        (("charge", "."), "cannot read ."),
        (("balances", "--endpoint", "ep_unknown"), "There is no such endpoint. Check the id. (ENDPOINT_NOT_FOUND)"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(options, arguments, message):
    result = run(*arguments, *options)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_an_address_where_nobody_listens_is_named(tmp_path):
    result = run("balances", "--endpoint", "ep_1", "--address", "127.0.0.1:1", "--key", "mk_x")
    assert result.exit_code == 1
    assert "cannot reach Meterline at 127.0.0.1:1" in result.stderr


def test_without_a_system_or_an_address_the_command_says_how_to_get_one(tmp_path):
    result = run("balances", "--endpoint", "ep_1", "--data-dir", str(tmp_path))
    assert result.exit_code == 1
    assert "Start one with `meterline up`" in result.stderr


def test_address_and_key_come_from_the_environment_too(rating):
    environment = {"METERLINE_RATING_ADDRESS": rating.address, "METERLINE_API_KEY": "mk_test"}
    result = CliRunner().invoke(main, ["balances", "--account", "acc_1"], env=environment)
    assert result.exit_code == 0
    assert "2.50" in result.stdout
    assert "EUR" in result.stdout


def test_balances_wants_one_owner(options):
    assert run("balances", *options).exit_code == 2
    assert run("balances", "--endpoint", "a", "--account", "b", *options).exit_code == 2


def test_explain_shows_the_sentences_as_they_are(options):
    result = run("explain", "chg_1", *options)
    assert "Because [so]." in result.stdout
    assert "1.50 EUR" in result.stdout
    assert json.loads(run("explain", "chg_1", "--json", *options).stdout)["plan_version"] == 2
