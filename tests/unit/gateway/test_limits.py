"""The bounds of the gateway, with a clock of their own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits import KEYS_MAX, Concurrency, Rate
from gateway.problems import Problem


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def passes(rate: Rate, key: str = "key") -> bool:
    try:
        rate.take(key)
    except Problem:
        return False
    return True


@given(st.lists(st.floats(0, 3), max_size=60), st.floats(0.5, 20), st.integers(1, 10))
def test_a_key_never_makes_more_than_the_burst_and_what_came_back(waits: list[float], per_s: float, burst: int):
    clock = Clock()
    rate = Rate(per_s, burst, clock)
    passed = 0
    for wait in waits:
        clock.now += wait
        passed += passes(rate)
    assert passed <= burst + (clock.now - 1000) * per_s + 1e-6


def test_who_waits_as_long_as_told_passes():
    clock = Clock()
    rate = Rate(0.5, 1, clock)
    assert passes(rate)
    with pytest.raises(Problem) as refused:
        rate.take("key")
    clock.now += int(refused.value.headers["retry-after"])
    assert passes(rate)


def test_one_key_does_not_spend_the_tokens_of_another():
    rate = Rate(1, 1, Clock())
    assert passes(rate, "a")
    assert passes(rate, "b")
    assert not passes(rate, "a")


def test_a_rate_of_zero_does_not_limit():
    rate = Rate(0, 1, Clock())
    assert all(passes(rate) for _ in range(100))


def test_keys_that_are_made_up_fill_no_memory():
    rate = Rate(1, 1, Clock())
    for number in range(KEYS_MAX + 100):
        rate.take(f"key {number}")
    assert len(rate._buckets) == KEYS_MAX


def test_a_place_is_free_again_whatever_the_request_came_to():
    concurrency = Concurrency(1)
    with pytest.raises(ZeroDivisionError), concurrency.one():
        _ = 1 / 0
    with concurrency.one(), pytest.raises(Problem, match="GATEWAY_BUSY"), concurrency.one():
        pass
    assert concurrency.now == 0
