import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.charge.records import BadLine, Record, read_records, write_csv
from cli.output import Failure
from meterline.rating.v1.charging_pb2 import UsageEvent, UsageMode
from meterline.type.v1.service_pb2 import AccessType, Service

HEADER = "event_id,endpoint_id,service,network_id,access_type,usage_time,quantity,mode"
GOOD = "e1,ep_1,DATA,net_20601,4G,2025-10-31T23:59:59.5Z,1000,ONLINE"
EVENT = UsageEvent(
    event_id="e1",
    endpoint_id="ep_1",
    service=Service.SERVICE_DATA,
    network_id="net_20601",
    access_type=AccessType.ACCESS_TYPE_4G,
    usage_time_ms=1_761_955_199_500,
    quantity=1000,
    mode=UsageMode.USAGE_MODE_ONLINE,
)


def only(lines: list[str]) -> Record | BadLine:
    (found,) = read_records(lines)
    return found


def test_csv_and_json_lines_of_the_same_record_are_the_same_event():
    fields = dict(zip(HEADER.split(","), GOOD.split(","), strict=True)) | {"quantity": 1000}
    assert only([HEADER, GOOD]) == Record(2, EVENT)
    assert only([json.dumps(fields)]) == Record(1, EVENT)


def test_columns_may_come_in_any_order_and_mode_may_be_left_out():
    names = HEADER.removesuffix(",mode").split(",")
    values = GOOD.removesuffix(",ONLINE").split(",")
    found = only([",".join(reversed(names)), ",".join(reversed(values))])
    assert isinstance(found, Record)
    assert found.event.mode == UsageMode.USAGE_MODE_OFFLINE


@pytest.mark.parametrize("time", ["1761955199500", "2025-11-01T00:59:59.5+01:00", "2025-10-31t23:59:59.500z"])
def test_a_time_is_rfc_3339_or_milliseconds(time):
    assert only([HEADER, GOOD.replace("2025-10-31T23:59:59.5Z", time)]) == Record(2, EVENT)


def test_a_byte_order_mark_and_empty_lines_are_no_records():
    assert [f.line for f in read_records(["", f"\ufeff{HEADER}", "", GOOD, "  ", GOOD])] == [4, 6]


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("", None),
        ("e1,ep_1,DATA", "line: has 3 values, the header 8 columns"),
        (GOOD.replace("DATA", "VOICE"), "service: is 'VOICE', expected one of DATA, SMS_MO, SMS_MT, NB_IOT"),
        (GOOD.replace("4G", "6G"), "access_type: is '6G'"),
        (GOOD.replace("1000", "-"), "quantity: is '-', expected a whole number"),
        (GOOD.replace("1000", "1.5"), "quantity: is '1.5'"),
        (GOOD.replace("1000", "9" * 19), "quantity: is"),
        (GOOD.replace("1000", "9" * 5000), "quantity: is"),
        (GOOD.replace("1000", "٣"), "quantity: is"),
        (GOOD.replace("e1", " "), "event_id: is missing"),
        (GOOD.replace("2025-10-31T23:59:59.5Z", "2025-10-31T23:59:59"), "usage_time: is"),
        (GOOD.replace("2025-10-31T23:59:59.5Z", "yesterday"), "usage_time: is"),
        (GOOD.replace("e1", '"e1'), "line: is not CSV"),
        (GOOD + "x" * 10_001, "line: is longer than 10000 characters"),
        (GOOD.replace("ONLINE", "MAYBE"), "mode: is 'MAYBE', expected one of ONLINE, OFFLINE"),
        ("\x00", "line: has 1 values"),
    ],
)
def test_a_bad_line_spoils_only_itself(line, detail):
    found = list(read_records([HEADER, GOOD, line, GOOD]))
    assert [f.line for f in found if isinstance(f, Record)] == [2, 4]
    bad = [f.detail for f in found if isinstance(f, BadLine)]
    assert len(bad) == (detail is not None)
    assert all(d.startswith(detail) for d in bad)


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("[1]", "line: is not a JSON object"),
        ("{", "line: is not JSON"),
        ("[" * 9000, "line: is not JSON"),
        ('{"event_id": "a", "colour": "red"}', "colour: is not a known field"),
        ('{"event_id": 7}', "event_id: is missing"),
        ('{"event_id":"a","endpoint_id":"b","service":["DATA"]}', "service: is ['DATA']"),
    ],
)
def test_a_bad_json_line_says_which_field_is_wrong(line, detail):
    good = json.dumps(dict(zip(HEADER.split(","), GOOD.split(","), strict=True)))
    found = list(read_records([good, line, good]))
    assert isinstance(found[1], BadLine)
    assert found[1].detail.startswith(detail)
    assert isinstance(found[2], Record)


def test_half_a_surrogate_pair_is_left_to_the_server():
    good = dict(zip(HEADER.split(","), GOOD.split(","), strict=True))
    found = only([json.dumps(good | {"event_id": "\ud800"})])
    assert isinstance(found, Record)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("event_id,quantity", "it lacks access_type, endpoint_id"),
        (f"{HEADER},price", "it has 'price', which is not known"),
        (f"{HEADER},mode", "a column comes twice"),
    ],
)
def test_a_wrong_header_is_refused_as_a_whole(header, message):
    with pytest.raises(Failure, match=message):
        list(read_records([header, GOOD]))


def test_an_empty_file_is_refused():
    with pytest.raises(Failure, match="empty"):
        list(read_records(["", "\n"]))


events = st.builds(
    UsageEvent,
    event_id=st.from_regex(r"[!#-+\--~]{1,64}", fullmatch=True),
    endpoint_id=st.just("ep_1"),
    service=st.sampled_from([n for n in Service.values() if n]),
    network_id=st.just("net_20601"),
    access_type=st.sampled_from([n for n in AccessType.values() if n]),
    usage_time_ms=st.integers(0, 4_102_444_800_000),
    quantity=st.integers(-(2**63) + 1, 2**63 - 1),
    mode=st.sampled_from([UsageMode.USAGE_MODE_ONLINE, UsageMode.USAGE_MODE_OFFLINE]),
)


@given(st.lists(events, min_size=1, max_size=5))
def test_what_is_written_is_read_back(written):
    read = [found.event for found in read_records(write_csv(written)) if isinstance(found, Record)]
    assert read == written


@given(st.lists(st.text(), max_size=6))
def test_no_text_breaks_the_reader(lines):
    found = list(read_records([HEADER, *lines]))
    assert len(found) <= len(lines)
