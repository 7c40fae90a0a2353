import pytest

from meterline.endpoints.v1 import sims_pb2
from services.common.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
)
from tests.integration.endpoints.world import account, iccid

Sim = sims_pb2.Sim


def importing(*sims: Sim) -> sims_pb2.ImportSimsRequest:
    return sims_pb2.ImportSimsRequest(sims=sims)


def assigning(name: str, *sim_ids: str) -> sims_pb2.AssignSimsRequest:
    return sims_pb2.AssignSimsRequest(sim_ids=sim_ids, account_id=account(name))


@pytest.mark.requirement("R259", "R269")
async def test_sims_go_down_the_tree_to_the_enterprise_that_uses_them(world):
    operator, reseller = world.as_("operator"), world.as_("reseller")
    imported = (await operator.call(operator.sims.ImportSims, importing(*world.new_sims(3)))).sims
    assert [sim.iccid for sim in imported] == [iccid(number) for number in range(3)]
    assert {(sim.account_id, sim.importer_account_id, sim.status) for sim in imported} == {
        (account("operator"), account("operator"), 1)
    }
    ids = [sim.id for sim in imported]
    with pytest.raises(NotFoundError):
        await reseller.sim(ids[0])
    await operator.call(operator.sims.AssignSims, assigning("reseller", *ids))
    assigned = (await reseller.call(reseller.sims.AssignSims, assigning("enterprise", *ids))).sims
    assert [sim.id for sim in assigned] == ids
    enterprise = world.as_("enterprise")
    assert (await enterprise.create(ids[0])).sim_id == ids[0]
    await enterprise.call(enterprise.sims.AssignSims, assigning("sub", ids[1]))
    assert (await world.as_("sub").create(ids[1])).account_id == account("sub")
    back = (await reseller.call(reseller.sims.AssignSims, assigning("reseller", ids[2]))).sims[0]
    assert back.account_id == account("reseller")
    assert {sim.importer_account_id for sim in (back, await enterprise.sim(ids[0]))} == {""}  # who is above is not told
    assert (await operator.sim(ids[0])).importer_account_id == account("operator")


async def test_an_assignment_of_sims_is_all_or_nothing(world):
    free, used = await world.sims(2)
    enterprise, reseller = world.as_("enterprise"), world.as_("reseller")
    endpoint = await enterprise.create(used)
    with pytest.raises(FailedPreconditionError) as refused:
        await reseller.call(reseller.sims.AssignSims, assigning("sibling", free, used))
    assert (refused.value.reason, refused.value.metadata["endpoint_id"]) == ("SIM_LINKED", endpoint.id)
    assert (await reseller.sim(free)).account_id == account("enterprise")


@pytest.mark.requirement("R269", "R285")
async def test_sims_of_others_do_not_exist_and_accounts_of_others_neither(world):
    (own,) = await world.sims(1)
    (foreign,) = await world.sims(1, holder="far", importer="stranger")
    reseller, enterprise = world.as_("reseller"), world.as_("enterprise")
    for attempt in (
        lambda: reseller.sim(foreign),
        lambda: reseller.call(reseller.sims.AssignSims, assigning("enterprise", foreign)),
        lambda: reseller.call(reseller.sims.AssignSims, assigning("far", own)),
        lambda: reseller.call(reseller.sims.AssignSims, assigning("operator", own)),
        lambda: enterprise.create(foreign),
    ):
        with pytest.raises(NotFoundError):
            await attempt()
    (sibling,) = await world.sims(1, holder="sub")
    with pytest.raises(NotFoundError):
        await world.as_("other_sub").create(sibling)


@pytest.mark.requirement("R269")
async def test_a_sim_that_is_not_assigned_to_the_enterprise_is_refused(small_world):
    (held_by_sub,) = await small_world.sims(1, holder="sub")
    assert (await small_world.as_("enterprise").create(held_by_sub)).sim_id == held_by_sub  # one family
    (held_above,) = await small_world.sims(1, holder="reseller")
    with pytest.raises(NotFoundError):
        await small_world.as_("enterprise").create(held_above)


async def test_only_the_provider_imports_and_nobody_hands_sims_to_an_ended_account(small_world):
    for name in ("enterprise", "sub"):
        client = small_world.as_(name)
        with pytest.raises(PermissionDeniedError):
            await client.call(client.sims.ImportSims, importing(*small_world.new_sims(1)))
    with pytest.raises(FailedPreconditionError, match="ACCOUNT_TERMINATED"):
        await small_world.sims(1, holder="ended")
    (sim,) = await small_world.sims(1, holder="sub")
    with pytest.raises(PermissionDeniedError):
        await small_world.as_("sub").call(small_world.as_("sub").sims.AssignSims, assigning("sub", sim))


GOOD = {"iccid": iccid(900), "imsi": "206019999999999", "msisdn": "32460999999"}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"iccid": iccid(900)[:-1] + str((int(iccid(900)[-1]) + 1) % 10)}, "iccid"),  # check digit
        ({"iccid": "7" + iccid(900)[1:]}, "iccid"),
        ({"iccid": "89320"}, "iccid"),
        ({"iccid": "8932x0000000000000"}, "iccid"),
        ({"iccid": ""}, "iccid"),
        ({"imsi": "000019999999999"}, "imsi"),  # no such MCC
        ({"imsi": "2060199999999999"}, "imsi"),
        ({"msisdn": "+32460999999"}, "msisdn"),
        ({"msisdn": "99999999999"}, "msisdn"),  # no such country code
        ({"msisdn": "32460"}, "msisdn"),
    ],
)
async def test_a_malformed_number_refuses_the_import_and_is_named(small_world, wrong, field):
    reseller = small_world.as_("reseller")
    sims = [*small_world.new_sims(1), Sim(**{**GOOD, **wrong})]
    with pytest.raises(InvalidArgumentError) as refused:
        await reseller.call(reseller.sims.ImportSims, importing(*sims))
    assert f"sims[1].{field}" in [violation.field for violation in refused.value.violations]
    assert not (await reseller.call(reseller.sims.ListSims, sims_pb2.ListSimsRequest())).sims


async def test_a_number_is_taken_once(world):
    reseller, stranger = world.as_("reseller"), world.as_("stranger")
    known, new = world.new_sims(2)
    await reseller.call(reseller.sims.ImportSims, importing(known))
    for name in ("iccid", "imsi", "msisdn"):
        clash = Sim(**GOOD)  # type: ignore[arg-type]
        setattr(clash, name, getattr(known, name))
        with pytest.raises(AlreadyExistsError) as refused:
            await stranger.call(stranger.sims.ImportSims, importing(new, clash))
        assert [violation.field for violation in refused.value.violations] == [f"sims[1].{name}"]
        setattr(clash, name, getattr(new, name))
        with pytest.raises(InvalidArgumentError) as twice:
            await stranger.call(stranger.sims.ImportSims, importing(new, clash))
        assert [violation.field for violation in twice.value.violations] == [f"sims[1].{name}"]
    assert (await stranger.call(stranger.sims.ImportSims, importing(new))).sims
    plain = Sim(iccid=iccid(950), imsi="206018888888888"), Sim(iccid=iccid(951), imsi="206018888888889")
    assert len((await stranger.call(stranger.sims.ImportSims, importing(*plain))).sims) == 2  # MSISDN is optional


async def test_sims_are_listed_in_pages_and_by_number_holder_and_status(world):
    ids = await world.sims(5)
    await world.sims(1, holder="sibling")
    await world.as_("enterprise").create(ids[1], activate=True)
    enterprise = world.as_("enterprise")
    seen, token = [], ""
    for _ in range(3):
        request = sims_pb2.ListSimsRequest(page_size=2, page_token=token)
        page = await enterprise.call(enterprise.sims.ListSims, request)
        seen += [sim.id for sim in page.sims]
        token = page.next_page_token
    assert (seen, token) == (ids, "")

    async def found(name: str, **wanted: object) -> list[str]:
        client = world.as_(name)
        request = sims_pb2.ListSimsRequest(**wanted)  # type: ignore[arg-type]
        return [sim.id for sim in (await client.call(client.sims.ListSims, request)).sims]

    assert await found("enterprise", iccid=iccid(2)) == [ids[2]]
    assert await found("reseller", status=3) == [ids[1]]
    assert len(await found("reseller", status=1)) == 5
    assert await found("reseller", status=5) == []
    assert len(await found("reseller", account_id=account("sibling"))) == 1
    assert await found("enterprise", account_id=account("sibling")) == []
    assert await found("far") == []
    with pytest.raises(InvalidArgumentError, match="PAGE_TOKEN_INVALID"):
        await found("enterprise", page_token="nonsense")
