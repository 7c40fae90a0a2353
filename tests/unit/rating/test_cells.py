"""Where somebody lives, and how a limit is shared out: pure rules."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.ids import is_id, new_id
from services.rating.domain.cells import CELLS_MAX, cell_of, cell_of_session, session_in_cell
from services.rating.domain.escrow import Wish, called_back
from services.rating.usecases.sessions import session_id

AMOUNTS = st.integers(0, 2**52)


def test_where_an_enterprise_lives_never_changes():
    assert [cell_of(f"acc_{n}", 8) for n in range(12)] == [7, 6, 7, 2, 4, 2, 3, 4, 6, 1, 5, 2]
    assert {cell_of(f"acc_{n}", 1) for n in range(100)} == {0}


def test_enterprises_spread_evenly():
    found = Counter(cell_of(new_id("acc"), 16) for _ in range(16_000))
    assert min(found.values()) > 800
    assert max(found.values()) < 1_200


@pytest.mark.parametrize("cell", [0, 1, 31, 32, CELLS_MAX - 1])
def test_a_sessions_id_says_where_it_lives(cell):
    name = session_id("ep_1", "ref", cell)
    assert is_id("ses", name)
    assert cell_of_session(name) == cell
    assert session_in_cell(session_id("ep_1", "ref"), cell) == name
    assert session_id("ep_2", "ref", cell) != name


@pytest.mark.parametrize("name", ["", "ses_", "ses_0", "ses_ll00000000000000000000000", "x"])
def test_what_is_no_sessions_id_names_no_cell(name):
    assert cell_of_session(name) == -1


@given(st.integers(-(2**52), 2**52), AMOUNTS, AMOUNTS, AMOUNTS, st.integers(1, 64))
def test_a_lease_is_free_and_helps_or_is_none(free, needed, least, ahead, cells):
    granted = Wish(0, needed, least, ahead, cells).granted(free)
    assert 0 <= granted <= max(free, 0)
    assert granted == 0 or granted >= least
    assert granted > 0 or free < max(least, 1) or needed == least == min(ahead, free // cells) == 0
    if needed <= free and free >= max(least, 1):
        assert granted >= needed


@given(AMOUNTS, st.dictionaries(st.integers(0, 31), AMOUNTS))
def test_what_is_called_back_is_there_and_is_enough_if_there_is_enough(missing, slices):
    wanted = called_back(missing, slices)
    assert all(0 < wanted[cell] <= slices[cell] for cell in wanted)
    assert sum(wanted.values()) >= min(missing, sum(slices.values()))
