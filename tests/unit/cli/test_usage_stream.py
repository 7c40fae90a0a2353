from collections import Counter

import pytest

from cli.charge import stream as stream_module
from cli.charge.stream import BREAKS_MAX, IN_FLIGHT_MAX, Batch, UsageStream
from cli.client import Connection, Target
from cli.output import Failure
from meterline.rating.v1.charging_pb2 import UsageEvent
from services.common.errors import (
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
)

KEY = "mk_test"
AWAY = UnavailableError("AWAY", "The store is away.")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(stream_module, "PAUSE_S", 0.001)
    monkeypatch.setattr(stream_module, "PAUSE_MAX_S", 0.01)


async def batches(count: int, size: int = 3):
    for number in range(1, count + 1):
        events = [UsageEvent(endpoint_id="ep_1", event_id=f"{number}-{i}") for i in range(size)]
        yield Batch(number, list(range(size)), events)


async def charge(rating, count: int, key: str = KEY) -> tuple[Counter[str], list[str]]:
    """Charge that many batches; returns how often each event was answered, and what was told."""
    answered: Counter[str] = Counter()
    told: list[str] = []

    def on_answer(batch, results):
        assert len(results) == len(batch.events)
        answered.update(event.event_id for event in batch.events)

    async with Connection(Target(rating.address, key)) as connection:
        await UsageStream(connection, on_answer, told.append).charge(batches(count))
    return answered, told


async def test_every_event_is_answered_once_over_a_whole_stream(rating):
    answered, told = await charge(rating, 50)
    assert len(answered) == 150
    assert set(answered.values()) == {1}
    assert told == []


async def test_an_empty_source_charges_nothing(rating):
    assert (await charge(rating, 0))[0] == Counter()


@pytest.mark.parametrize("answers", [0, 1, 20])
async def test_a_broken_stream_resends_what_has_no_answer_with_the_same_ids(rating, answers):
    rating.breaks = [(answers, AWAY), (0, AWAY), (2, None)]
    answered, told = await charge(rating, 40)
    assert len(answered) == 120
    assert set(answered.values()) == {1}
    assert len(rating.answered) == 120, "the server saw no event that it did not know"
    assert len(rating.batches) > 40, "some came again"
    assert 1 <= len(told) <= 3
    assert "The store is away." in " ".join(told)


async def test_no_more_batches_are_in_flight_than_the_bound(rating):
    rating.breaks, rating.pauses = [(2, AWAY)], [0.5, 0.0]  # the second answer comes late, the third never
    _, told = await charge(rating, 200)
    waiting = int(told[0].partition("sending ")[2].split()[0])
    assert IN_FLIGHT_MAX - 1 <= waiting <= IN_FLIGHT_MAX


async def test_the_server_says_how_long_to_wait(rating):
    full = ResourceExhaustedError("WINDOW_FULL", "Too much in work.", retry_after_ms=150)
    rating.breaks = [(0, full)]
    _, told = await charge(rating, 2)
    assert "Too much in work" in told[0]
    assert float(told[0].rpartition(" in ")[2].removesuffix(" s")) >= 0.1


async def test_a_stream_that_never_answers_is_given_up_with_what_to_do(rating):
    rating.breaks = [(0, AWAY)] * (BREAKS_MAX + 5)
    with pytest.raises(Failure, match=r"charging stopped: The store is away. \(UNAVAILABLE\). 1 batches"):
        await charge(rating, 20)
    assert len(rating.breaks) == 5, "it tried as often as the bound says"


async def test_breaks_with_answers_between_them_never_add_up_to_giving_up(rating):
    rating.breaks = [(1, AWAY)] * (BREAKS_MAX + 5)
    answered, _ = await charge(rating, 30)
    assert len(answered) == 90


async def test_a_refused_credential_is_told_at_once(rating):
    with pytest.raises(Failure, match=r"Send an API key. \(UNAUTHENTICATED\)"):
        await charge(rating, 3, key="mk_wrong")
    assert rating.batches == []


async def test_a_forbidden_stream_is_not_tried_again(rating):
    rating.breaks = [(0, PermissionDeniedError("ROLE_NOT_PERMITTED", "This call needs the role CHARGER."))]
    with pytest.raises(Failure, match="needs the role CHARGER"):
        await charge(rating, 3)
    assert rating.breaks == []


async def test_silence_counts_as_a_break(rating, monkeypatch):
    monkeypatch.setattr(stream_module, "ANSWER_TIMEOUT_S", 0.2)
    rating.pauses = [5.0]
    answered, told = await charge(rating, 2)
    assert len(answered) == 6
    assert "no answer in" in told[0]
