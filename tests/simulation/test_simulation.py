"""Rating under everything that can go wrong, a few hundred seeds of it; `make test-sim` runs thousands."""

import os
import subprocess
import sys

import pytest

from services.rating.engine.driver import Engine
from services.rating.usecases.journalling import Journaller
from tests.simulation.simulation import simulate

SEEDS = 100
PART = 25


@pytest.mark.parametrize("first", range(0, SEEDS, PART))
def test_whatever_fails_each_answer_counts_exactly_once(first):
    for seed in range(first, first + PART):
        result = simulate(seed)
        assert not result.wrong, result.report()
        assert result.segments > 0


@pytest.mark.parametrize("promise", ["durable before the answer", "ids known after a rebuild"])
def test_a_broken_promise_is_noticed(promise, monkeypatch):
    async def nothing(*_: object) -> None: ...

    if promise == "durable before the answer":
        monkeypatch.setattr(Journaller, "durable", nothing)
    else:
        monkeypatch.setattr(Engine, "load_ids", nothing)
    assert any(simulate(seed).wrong for seed in range(SEEDS))


def test_a_seed_always_makes_the_same_run():
    first, again = simulate(7), simulate(7)
    assert (first.digest, first.trace) == (again.digest, again.trace)
    program = "from tests.simulation.simulation import simulate; print(simulate(7).digest)"
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        printed = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        assert printed.stdout.strip() == first.digest
    assert simulate(8).digest != first.digest
