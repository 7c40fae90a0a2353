"""What clients saw is a history of the model: while rating is killed again and again, and to the last answer."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace

import grpc
import pytest

from services.rating.domain.decisions import Segment
from tests.system.history import CHANNEL, Doors, History, settle
from tests.system.launching import System
from tests.system.market import EU, MB, Market, addon, default_of, plan, tariff, zone
from tests.system.mixture import Client
from tests.system.replay import Replay, segments_of, terms_of
from tests.system.steady import until
from tests.system.tooling import assert_sound
from tests.telling import Tell

CLIENTS, KILLS, SEED = 8, 3, 1
CALM_S = (0.5, 2.5)
"""How long rating lives, at random, between two kills."""
COMEBACK_S = 30
Broken = tuple[Sequence[Segment], History]


async def endpoints_of(market: Market) -> list[str]:
    """Two endpoints each that pay from money, from small add-ons (one begins on first use) and later."""
    enterprise = market.enterprise
    profile = (await default_of(enterprise, "service-profiles", "DEFAULT"))["id"]
    own = await zone(enterprise, EU)
    price = await tariff(enterprise, own, 3)
    roaming = {"roaming_profile_id": (await default_of(enterprise, "roaming-profiles", "DEFAULT"))["id"]}
    base = {"type": "PLAN_TYPE_BASE", "service_profile_id": profile, "tariff_id": price, **roaming}
    paygo = await plan(enterprise, charging_mode="CHARGING_MODE_PREPAID", **base)
    later = await plan(enterprise, charging_mode="CHARGING_MODE_POSTPAID", **base)
    small = await addon(enterprise, profile, own, 300 * MB, priority=1)
    on_use = {"activation": "ACTIVATION_ON_USAGE", "validity": "604800s", "priority": 2}
    pending = await addon(enterprise, profile, own, 200 * MB, **on_use)
    return [
        *await market.endpoints(2, plan_id=paygo),
        *await market.endpoints(2, addons=[small, pending]),
        *await market.endpoints(2, plan_id=later, addons=[small]),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("system", ["embedded"], indirect=True)
async def test_what_clients_saw_while_rating_was_killed_is_a_history_of_the_model(
    system: System, market: Market, tell: Tell
):
    endpoints = await endpoints_of(market)
    history = await made_by_clients(system, market, endpoints)
    model, segments = await terms_of(system, endpoints), await segments_of(system)
    replay = Replay(model(), history)
    wrong = replay.run(segments)
    await replay.compare_balances(market.operator)
    counts = [f"{count} {what}" for what, count in sorted(replay.counts.items())]
    tell("; ".join([f"{len(history.attempts)} sent", f"{len(replay.entries)} journalled", *counts]))
    assert not wrong, "\n".join([f"{len(wrong)} things are wrong", *wrong[:20]])
    assert all(replay.counts[name] for name in ("answers", "unknown", "changed", "charged", "refused", "session calls"))
    await assert_sound(system.description["data_folder"], {})
    for damage, sentence in DAMAGE.items():
        broken = damage(replay, segments, history)
        assert any(sentence in each for each in Replay(model(), broken[1]).run(broken[0])), sentence


async def made_by_clients(system: System, market: Market, endpoints: Sequence[str]) -> History:
    """Let clients do what they do while rating is killed; then ask again what had no answer."""
    history, draw, over = History(), random.Random(SEED), asyncio.Event()
    payers = [*endpoints[:2], market.reseller.account_id]
    async with grpc.aio.insecure_channel(system.description["rating"], options=CHANNEL) as channel:
        doors = Doors(market.operator, channel, history)
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(Client(doors, history, endpoints, payers, number).run(over.is_set))
            for _ in range(KILLS):
                await asyncio.sleep(draw.uniform(*CALM_S))
                before = system.comebacks("rating")
                system.kill("rating")
                await until(lambda count=before: system.comebacks("rating") > count, COMEBACK_S)
            await asyncio.sleep(CALM_S[1])
            over.set()
        await settle(doors, history)
    return history


# What the checker is for: each of these must be found.


def charged_twice(replay: Replay, segments: Sequence[Segment], history: History) -> Broken:
    """The last segment with charges of ours is applied a second time."""
    return [*segments, _one_of(replay, segments)], history


def lost(replay: Replay, segments: Sequence[Segment], history: History) -> Broken:
    """It is not there."""
    gone = _one_of(replay, segments)
    return [segment for segment in segments if segment is not gone], history


def told_another_price(replay: Replay, segments: Sequence[Segment], history: History) -> Broken:
    """Somebody was told a micro more at the last step."""
    attempts = list(history.attempts)
    place = next(n for n, each in enumerate(attempts) if each.answer[:1] == ("CHARGED",))
    what, amounts, *rest = attempts[place].answer
    attempts[place] = replace(attempts[place], answer=(what, (*amounts[:-1], amounts[-1] + 1), *rest))
    return segments, replace(history, attempts=attempts)


def out_of_order(replay: Replay, segments: Sequence[Segment], history: History) -> Broken:
    """The first answered event was answered before any was sent."""
    attempts = list(history.attempts)
    place = max((n for n, each in enumerate(attempts) if each.key in replay.entries and each.answer), key=lambda n: (
        replay.entries[attempts[n].key][0].position
    ))  # fmt: skip
    attempts[place] = replace(attempts[place], begin=0.0, end=attempts[0].begin)
    return segments, replace(history, attempts=attempts)


def _one_of(replay: Replay, segments: Sequence[Segment]) -> Segment:
    """A segment in which an event of ours was charged and its client was told so."""
    told = {each.key for each in replay.history.attempts if each.answer[:1] == ("CHARGED",)}
    sequence = max(e[0].position[0] for key, e in replay.entries.items() if key in told and e[0].answer[0] == "CHARGED")
    return next(segment for segment in segments if segment.sequence == sequence)


DAMAGE = {
    charged_twice: "stands in the journal 2 times",
    lost: "is not in the journal",
    told_another_price: "the model says",
    out_of_order: "stands after it in the journal",
}
