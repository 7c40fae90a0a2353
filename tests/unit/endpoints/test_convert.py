import hypothesis.strategies as st
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given

from meterline.endpoints.v1 import endpoints_pb2
from services.common.errors import InvalidArgumentError
from services.endpoints.convert.endpoints import from_update_request
from services.endpoints.convert.times import from_timestamp, to_timestamp
from services.runtime.masks import updated_id

MS_OF_YEAR_1, MS_OF_YEAR_10000 = -62_135_596_800_000, 253_402_300_800_000


@given(ms=st.integers(MS_OF_YEAR_1, MS_OF_YEAR_10000 - 1))
def test_a_moment_comes_back_as_it_went(ms):
    assert from_timestamp(to_timestamp(ms), "time") == ms


@pytest.mark.parametrize(
    "time",
    [
        Timestamp(seconds=MS_OF_YEAR_1 // 1000 - 1),
        Timestamp(seconds=MS_OF_YEAR_10000 // 1000),
        Timestamp(seconds=2**62),
        Timestamp(nanos=-1),
        Timestamp(nanos=10**9),
    ],
)
def test_a_moment_outside_the_calendar_is_refused(time):
    with pytest.raises(InvalidArgumentError):
        from_timestamp(time, "time")


def changes(*paths: str, **fields: object) -> frozenset[str]:
    endpoint = endpoints_pb2.Endpoint(id="ep_1", **fields)  # type: ignore[arg-type]
    request = endpoints_pb2.UpdateEndpointRequest(endpoint=endpoint, update_mask=FieldMask(paths=paths))
    return from_update_request(request).fields


def test_an_empty_mask_means_what_is_set_and_a_star_means_all():
    assert changes() == frozenset()
    assert changes(name="n", sim_id="sim_1", state=2) == {"name"}
    assert changes("*") == {"name", "apn_group_id", "barred_services", "tags"}


def test_output_only_fields_and_the_etag_are_ignored():
    assert changes("name", "state", "create_time", "etag", "id") == {"name"}


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("x", "FIELD_INVALID"),
        ("tags.x", "FIELD_INVALID"),
    ],
)
def test_other_fields_are_refused(path, reason):
    with pytest.raises(InvalidArgumentError) as refused:
        changes(path)
    assert refused.value.reason == reason


def test_a_field_that_does_not_change_is_handed_on_to_be_compared():
    endpoint = endpoints_pb2.Endpoint(id="ep_1", sim_id="sim_1")
    for paths, kept in (([], {"sim_id": "sim_1"}), (["account_id"], {"account_id": ""}), (["*"], {"sim_id": "sim_1"})):
        request = endpoints_pb2.UpdateEndpointRequest(endpoint=endpoint, update_mask=FieldMask(paths=paths))
        assert from_update_request(request).kept == kept


def test_an_update_says_what_it_updates():
    for wrong in ("", "asg_1", "ep_1"):
        with pytest.raises(InvalidArgumentError):
            updated_id(wrong, "endpoint.id", "ep")
