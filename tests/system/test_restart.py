"""A restart with less than there was: the journal is enough for balances and books, and the operator's key is replaced."""

import secrets
from pathlib import Path

import pytest

from tests.system.launching import launched
from tests.system.market import MB, build_market, usage
from tests.system.stranger import Json, Stranger
from tests.system.test_worked_example import complete, left

LEVELS = {"group_by": "SUMMARY_DIMENSION_LEVEL"}


@pytest.mark.slow
async def test_without_ledger_and_valkey_and_with_a_new_operator_key_it_goes_on_as_before(tmp_path: Path):
    with launched("embedded", tmp_path, {}) as system:
        async with Stranger.connected(system.description) as operator:
            market = await build_market(operator)
            endpoint_id = await market.endpoint(addons=[market.addon_a])
            events = [usage(endpoint_id, MB) for _ in range(50)]
            await operator.charge_batch(events)
            books = await _books(operator)
            buckets = await left(market.enterprise, endpoint_id=endpoint_id)
    for file in (tmp_path / "data").glob("rating.sqlite*"):
        file.unlink()
    key = f"mk_0{'a' * 25}_{secrets.token_urlsafe(32)}"
    (tmp_path / "data" / "operator.key").write_text(key)
    with launched("embedded", tmp_path, {}) as system:
        async with Stranger.connected(system.description) as operator:
            assert operator.key == key
            assert await _books(operator) == books
            enterprise = Stranger(operator.http, operator.rating, market.enterprise.key)
            assert await left(enterprise, endpoint_id=endpoint_id) == buckets
            assert all(result.replayed for result in await operator.charge_batch(events))
            old = Stranger(operator.http, operator.rating, market.operator.key)
            assert (await old.problem("GET", "/v1/me"))["code"] == "CREDENTIAL_INVALID"


async def _books(operator: Stranger) -> list[Json]:
    rows: list[Json] = (await complete(operator, "/v1/usage-summaries", **LEVELS))["summaries"]
    assert rows
    return rows
