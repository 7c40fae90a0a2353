"""Pages of sums: each that is there during the whole walk comes once, whatever is used meanwhile."""

import base64
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from services.common.errors import InvalidArgumentError, NotFoundError
from services.common.identity import AccountKind, Principal, Role
from services.common.pages import page_request, page_token
from services.rating.usecases.books import Books, Found, Selection
from tests.integration.rating.test_charging import ENTERPRISE_CALLER
from tests.integration.rating.test_refunds import paid
from tests.integration.rating.world import OPERATOR_CALLER, World, world
from tests.unit.rating.terms import ENDPOINT, ENTERPRISE, MB, RESELLER

ENDPOINTS = [f"ep_{number}" for number in range(1, 10)]
BY_ENDPOINT = frozenset({"endpoint"})


@pytest.fixture
async def core(valkey_url, sqlite_url):
    terms = paid()
    terms.endpoints.update({name: replace(terms.endpoints[ENDPOINT], id=name) for name in ENDPOINTS})
    terms.change()
    async with world(terms, valkey_url, sqlite_url) as core:
        yield core


async def use(core: World, *names: str) -> None:
    for name in names:
        await core.use(MB, f"{core.clock.now_ms()}{name}", endpoint_id=name, mode=2)
    core.clock.advance(1)
    await core.fold()


async def summed(core: World, size: int = 2, token: str = "", caller=ENTERPRISE_CALLER, of=BY_ENDPOINT) -> Found:
    books = Books(core.books, core.journal, core.terms)
    return await books.summarize(caller, caller.account_path, Selection(), of, page_request(size, token))


@pytest.mark.parametrize("caller", [ENTERPRISE_CALLER, OPERATOR_CALLER], ids=["enterprise", "operator"])
@pytest.mark.parametrize("size", [1, 2, 3])
async def test_usage_between_pages_repeats_and_skips_nothing(caller, size, core):
    await use(core, *ENDPOINTS[2:6])
    before = (await summed(core, 1000, caller=caller)).rows
    assert len(before) == 4 * (2 if caller is ENTERPRISE_CALLER else 3)
    token, coming = "", [ENDPOINTS[0], ENDPOINTS[8], ENDPOINTS[1], ENDPOINTS[3]]
    walked: list[Any] = []
    while token or not walked:
        page = await summed(core, size, token, caller)
        assert len(page.rows) == size or not page.next_page_token
        walked += [(row.path, row.step, row.endpoint_id) for row in page.rows]
        token = page.next_page_token
        if coming:
            await use(core, coming.pop(0))
    assert walked == sorted(walked)
    times = Counter(walked)
    assert set(times.values()) == {1}
    assert {(row.path, row.step, row.endpoint_id) for row in before} <= times.keys()


@pytest.mark.parametrize("of", ["endpoint", "day", "service", "network", "country"])
async def test_every_dimension_is_walked_in_order_to_its_end(of, core):
    await use(core, *ENDPOINTS[:2])
    everything = (await summed(core, 1000, of=frozenset({of}))).rows
    token = ""
    walked: list[Any] = []
    while token or not walked:
        page = await summed(core, 1, token, of=frozenset({of}))
        walked += page.rows
        token = page.next_page_token
    assert walked == everything


async def test_a_token_names_no_account_above_the_caller(core):
    await use(core, *ENDPOINTS)
    told = base64.urlsafe_b64decode((await summed(core)).next_page_token).decode()
    assert "ep_2" in told
    assert not any(name in told for name in ENTERPRISE_CALLER.account_path[:-1])


@pytest.mark.parametrize("after", [(2,), ("", 0, "EUR", "ep_1", "", "", "", "1"), ("", 0, "EUR")])
async def test_a_token_of_another_list_is_refused(after, core):
    await use(core, *ENDPOINTS)
    with pytest.raises(InvalidArgumentError, match="PAGE_TOKEN_INVALID"):
        await summed(core, token=page_token(*after))


async def test_a_sub_account_sums_the_use_of_its_own_endpoint(core):
    path = ("acc_o", RESELLER, ENTERPRISE)
    sub = Principal("k", "acc_s", AccountKind.SUB_ACCOUNT, (*path, "acc_s"), Role.ADMIN)
    core.terms.change(replace(core.terms.endpoints[ENDPOINTS[0]], account_id="acc_s"))
    await use(core, *ENDPOINTS[:3])
    books = Books(core.books, core.journal, core.terms)

    async def asked(own: tuple[str, ...], endpoint_id: str) -> list[tuple[int, str]]:
        selection = Selection(endpoint_id=endpoint_id)
        found = await books.summarize(sub, own, selection, BY_ENDPOINT, page_request(10, ""))
        return [(row.step, row.endpoint_id) for row in found.rows]

    for own in (sub.account_path, path):
        assert await asked(own, ENDPOINTS[0]) == [(0, ENDPOINTS[0])]
        with pytest.raises(NotFoundError, match="ENDPOINT_NOT_FOUND"):
            await asked(own, ENDPOINTS[1])
        with pytest.raises(InvalidArgumentError, match="endpoint_id: is required"):
            await asked(own, "")
    with pytest.raises(NotFoundError, match="ACCOUNT_NOT_FOUND"):
        await asked((*path[:2], "acc_x"), ENDPOINTS[0])
