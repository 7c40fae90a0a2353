import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.catalog.domain.coverage import Selection, networks_to_add, networks_to_remove
from services.catalog.domain.networks import Network, in_countries, is_in_country
from services.common.errors import FailedPreconditionError, InvalidArgumentError

COUNTRIES = ("BE", "DE", "GE", "GE-AB")
NETWORKS = {
    network.id: network
    for network in (
        Network("206", f"{number:02d}", COUNTRIES[number % 4], operational=number % 5 != 0) for number in range(20)
    )
}
some_networks = st.sets(st.sampled_from(sorted(NETWORKS))).map(frozenset)
selections = st.builds(
    Selection,
    network_ids=st.lists(st.sampled_from(sorted(NETWORKS)), max_size=5).map(tuple),
    country_codes=st.lists(st.sampled_from(COUNTRIES), max_size=2).map(tuple),
    all_networks=st.booleans(),
)


@pytest.mark.requirement("R017")
@given(selections, some_networks)
def test_nothing_is_added_that_the_parent_does_not_cover_or_that_does_not_operate(selection, parent):
    operating = {key for key, network in NETWORKS.items() if network.operational}
    if not set(selection.network_ids) <= parent & operating:
        with pytest.raises(FailedPreconditionError, match=r"NETWORK_NOT_IN_PARENT_COVERAGE|NETWORK_NOT_OPERATIONAL"):
            networks_to_add(selection, NETWORKS, parent)
        return
    added = networks_to_add(selection, NETWORKS, parent)
    assert set(selection.network_ids) <= added
    assert added <= parent
    assert added <= operating


@given(selections, some_networks)
def test_only_what_is_covered_is_removed(selection, covered):
    removed = networks_to_remove(selection, NETWORKS, covered)
    assert removed <= covered
    assert frozenset(selection.network_ids) & covered <= removed
    if selection.all_networks:
        assert removed == covered


def test_the_operator_may_cover_every_network_that_operates():
    everything = networks_to_add(Selection(all_networks=True), NETWORKS, None)
    assert everything == {key for key, network in NETWORKS.items() if network.operational}


def test_a_selection_names_something():
    with pytest.raises(InvalidArgumentError, match="NETWORKS_REQUIRED"):
        Selection().require_something()
    Selection(all_networks=True).require_something()


def test_a_subdivision_lies_in_its_country_and_not_the_other_way_round():
    assert is_in_country("GE-AB", "GE")
    assert not is_in_country("GE", "GE-AB")
    assert not is_in_country("GEX", "GE")
    pairs = [(key, network.country_code) for key, network in NETWORKS.items()]
    assert in_countries(pairs, ["GE"]) > in_countries(pairs, ["GE-AB"]) > in_countries(pairs, [])


def test_a_network_is_known_by_its_numbers():
    network = Network("310", "410", "US", brand="AT&T")
    assert network.id == "net_310410"
    assert "310-410" in network.search_text
    assert "at&t" in network.search_text
