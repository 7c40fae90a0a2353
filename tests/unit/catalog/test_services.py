import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.catalog.domain.services import (
    ALL_SERVICES,
    AccessType,
    Service,
    ServiceAccess,
    Unit,
    canonical,
    in_words,
    intersection,
    outside,
)
from services.common.errors import InvalidArgumentError

scopes = st.dictionaries(st.sampled_from(Service), st.sets(st.sampled_from(AccessType), min_size=1)).map(
    lambda sets: canonical([ServiceAccess(service, tuple(kinds)) for service, kinds in sets.items()], "services")
)


@given(scopes, scopes)
def test_what_two_scopes_share_lies_within_both(one, other):
    common = intersection([one, other])
    assert not outside(common, one)
    assert not outside(common, other)
    assert common == intersection([other, one])


@given(scopes)
def test_everything_bounds_every_scope(scope):
    assert not outside(scope, ALL_SERVICES)
    assert intersection([scope]) == intersection([ALL_SERVICES, scope]) == scope
    assert intersection([]) == ALL_SERVICES


@given(scopes, scopes)
def test_what_is_outside_and_what_is_shared_make_the_whole(inner, outer):
    parts = [
        (a.service, kind)
        for part in (outside(inner, outer), intersection([inner, outer]))
        for a in part
        for kind in a.access_types
    ]
    assert sorted(parts) == [(a.service, kind) for a in inner for kind in a.access_types]


def test_a_service_stands_once():
    access = ServiceAccess(Service.DATA, (AccessType.G4, AccessType.G2))
    assert canonical([access], "x") == (ServiceAccess(Service.DATA, (AccessType.G2, AccessType.G4)),)
    with pytest.raises(InvalidArgumentError, match="SERVICE_TWICE"):
        canonical([access, ServiceAccess(Service.DATA, (AccessType.G5,))], "x")


def test_messages_are_counted_and_data_is_measured():
    assert {service: service.unit for service in Service} == {
        Service.DATA: Unit.BYTES,
        Service.NB_IOT: Unit.BYTES,
        Service.SMS_MO: Unit.MESSAGES,
        Service.SMS_MT: Unit.MESSAGES,
    }


def test_a_scope_is_written_in_words():
    assert in_words((ServiceAccess(Service.SMS_MO, (AccessType.G2, AccessType.G5)),)) == "SMS_MO over 2G 5G"
