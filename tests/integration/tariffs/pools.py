"""Worked examples of pools that grow with the endpoints that share them."""

from dataclasses import replace

from tests.integration.rating.world import OPERATOR_CALLER, StillTerms, World


def join(core: World, terms: StillTerms, at_ms: int) -> None:
    """Let those of the endpoints be there at a time who have joined by then; more than before, if any."""
    core.clock.at_ms = at_ms
    joined = [each for each in terms.endpoints.values() if each.base and each.base.assigned_ms <= at_ms]
    enterprise, *above = terms.accounts
    core.terms.become(StillTerms(joined, [replace(enterprise, members=(), version=len(joined)), *above], terms.catalog))


async def left(core: World) -> int:
    """What is left of what the endpoints share."""
    pool, *_ = await core.balances.of_owner(OPERATOR_CALLER, "", core.terms.accounts[0].id)
    return pool.remaining
