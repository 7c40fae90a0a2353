"""Builds the demo's tree through the gRPC API: networks, coverage, accounts, plans, SIMs, endpoints, money.

Every write carries a request id that follows from the seed and the sizes, so that a second run finds what the first
one made, and a run that was broken off goes on where it stopped.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import phonenumbers
from google.type.money_pb2 import Money
from stdnum import luhn

from cli.demo import tariffs
from cli.demo.actor import Actor
from cli.demo.commerce import ALL_SERVICES, Commerce, accesses
from cli.demo.networks import World
from cli.demo.scenario import ENTERPRISES, MEMBERS, OPERATOR, Fleet, Member, scaled, shared_out
from meterline.accounts.v1.accounts_pb2 import Account, AccountKind, CreateAccountRequest
from meterline.accounts.v1.companies_pb2 import Address, Company, CompanyType
from meterline.catalog.v1.networks_pb2 import ChangeCoverageRequest, ImportNetworksRequest
from meterline.catalog.v1.profiles_pb2 import SetServiceScopeRequest
from meterline.endpoints.v1.assignments_pb2 import AssignAccountPlanRequest
from meterline.endpoints.v1.endpoints_pb2 import BatchCreateEndpointsRequest, CreateEndpointRequest, Endpoint
from meterline.endpoints.v1.sims_pb2 import ImportSimsRequest, Sim
from meterline.rating.v1.balances_pb2 import TopUpBalanceRequest
from services.common.ids import derived_id

T = TypeVar("T")

BATCH = 1000
TOP_UPS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Size:
    """How large the demo is, and which one it is.

    Attributes:
        seed: of everything that is drawn.
        endpoints: of all enterprises together.
        records: usage records.
    """

    seed: int
    endpoints: int
    records: int

    @property
    def label(self) -> str:
        """What tells this demo's names and ids from those of another."""
        return f"demo {self.seed}-{self.endpoints}-{self.records}"


@dataclass(slots=True)
class Tree:
    """What the set-up built.

    Attributes:
        operator: the caller at the top.
        actors: the other accounts as callers, by the name of the member.
        endpoints: ids of each enterprise's endpoints, in order.
        topped_up: ids of endpoints with money.
    """

    operator: Actor
    actors: dict[str, Actor] = field(default_factory=dict)
    endpoints: dict[str, list[str]] = field(default_factory=dict)
    topped_up: dict[str, list[str]] = field(default_factory=dict)

    def actor(self, name: str) -> Actor:
        """The caller for a member or the operator."""
        return self.operator if name == OPERATOR else self.actors[name]

    def account_id(self, name: str) -> str:
        """The id of a member's account."""
        return self.actor(name).account_id

    def name_of(self, account_id: str) -> str:
        """The member with this account id; the id itself for another account."""
        everyone = {actor.account_id: name for name, actor in self.actors.items()}
        return everyone.get(account_id, OPERATOR if account_id == self.operator.account_id else account_id)

    async def close(self) -> None:
        """Revoke the keys of this run and close all channels."""
        for actor in self.actors.values():
            await self.operator.revoke(actor)
            await actor.close()
        await self.operator.close()


class Setup:
    """Builds the tree.

    Args:
        tree: with its operator; the rest is filled in.
        world: the networks.
        size: of the demo.
        tell: gets a sentence at each stage.
    """

    def __init__(self, tree: Tree, world: World, size: Size, tell: Callable[[str], None]) -> None:
        self._tree, self._world, self._size, self._tell = tree, world, size, tell
        self._commerce = {OPERATOR: self._commerce_of(tree.operator)}
        self._everything: dict[str, str] = {}
        """Id of each seller's service profile for its children's plans."""

    def _commerce_of(self, actor: Actor) -> Commerce:
        return Commerce(actor, self._world, self._size.label, self._size.records)

    async def build(self) -> None:
        """Build everything that does not exist yet."""
        await self._import_networks()
        for member in MEMBERS:
            await self._open_account(member)
            await self._sell_to(member)
        self._tell(f"{len(MEMBERS)} accounts below the operator, each with its coverage, scope and price")
        await asyncio.gather(*(self._equip(member, member.fleet) for member in ENTERPRISES if member.fleet))
        self._tell(
            f"{self._size.endpoints:,} endpoints with SIM, base plan and add-ons in {len(ENTERPRISES)} enterprises"
        )

    async def _import_networks(self) -> None:
        operator, world = self._tree.operator, self._world
        created = 0
        for networks in _chunks(world.networks):
            request = ImportNetworksRequest(networks=networks)
            created += (await operator.call(operator.networks.ImportNetworks, request)).created_count
        await self._grant(operator, operator.account_id)
        self._tell(
            f"{len(world.networks):,} networks in {len(world.by_country)} countries, {created:,} of them new;"
            f" {world.left_out} entries of the list are repeated or lack a code"
        )

    async def _grant(self, parent: Actor, account_id: str) -> None:
        """Give an account all networks and services of its parent."""
        coverage = ChangeCoverageRequest(account_id=account_id, all_networks=True)
        await parent.once(parent.networks.AddCoverage, coverage, "coverage", account_id)
        scope = SetServiceScopeRequest(account_id=account_id, services=accesses(ALL_SERVICES))
        await parent.once(parent.profiles.SetServiceScope, scope, "scope", account_id)

    async def _open_account(self, member: Member) -> None:
        parent = self._tree.actor(member.parent)
        account = Account(
            kind=member.kind,
            parent_id=parent.account_id,
            name=f"{member.name}, {self._size.label}",
            currency=member.buys.currency,
        )
        if member.credit_limit is not None:
            limit = scaled(member.credit_limit, self._size.records)
            account.credit_limit.CopyFrom(tariffs.money(limit, member.buys.currency))
        request = CreateAccountRequest(account=account, company=_company(member, self._size), activate=True)
        created = await parent.once(parent.accounts.CreateAccount, request, "account", member.name)
        self._tree.actors[member.name] = await self._tree.operator.act_as(created.id, member.name)
        self._commerce[member.name] = self._commerce_of(self._tree.actors[member.name])
        await self._grant(parent, created.id)

    async def _sell_to(self, member: Member) -> None:
        """The parent's price to the member, and what comes with it."""
        parent, commerce = self._tree.actor(member.parent), self._commerce[member.parent]
        profile = self._everything.get(member.parent) or await commerce.service_profile()
        self._everything[member.parent] = profile
        plans = [await commerce.base_plan(member.buys, member.mode, profile)]
        plans += [await commerce.addon(addon, profile) for addon in member.addons]
        account_id = self._tree.account_id(member.name)
        for number, plan_id in enumerate(plans):
            assign = AssignAccountPlanRequest(account_id=account_id, plan_id=plan_id)
            await parent.once(parent.assignments.AssignAccountPlan, assign, "assign", member.name, str(number))
        if member.wallet:
            amount = tariffs.money(scaled(member.wallet, self._size.records), member.buys.currency)
            top_up = TopUpBalanceRequest(account_id=account_id, amount=amount)
            await parent.once(parent.balances.TopUpBalance, top_up, "wallet", member.name)

    async def _equip(self, member: Member, fleet: Fleet) -> None:
        """The enterprise's own price list, and its devices."""
        commerce = self._commerce[member.name]
        default = await commerce.default_service_profile()
        profile = await commerce.service_profile(fleet.services) if fleet.services else default
        if fleet.prices is None:
            plan_id = await commerce.default_prepaid_plan()
        else:
            roaming = commerce.roaming_profile(fleet.roams_in) if fleet.roams_in else commerce.default_roaming_profile()
            plan_id = await commerce.base_plan(fleet.prices, fleet.mode, profile, await roaming, fleet.benefit)
        plans = {addon: await commerce.addon(addon, default) for addon in dict(fleet.addons)}
        requests = [
            CreateEndpointRequest(
                endpoint=Endpoint(name=f"{member.name} {number:05d}", sim_id=sim_id),
                plan_id=plan_id,
                addon_plan_ids=[plans[addon] for addon, every in fleet.addons if number % every == 0],
                activate=True,
            )
            for number, sim_id in enumerate(await self._sims(member))
        ]
        await self._create_endpoints(member, requests)
        if fleet.money and fleet.prices:
            amount, every = fleet.money
            await self._top_up(member.name, tariffs.money(amount, fleet.prices.currency), every)

    async def _sims(self, member: Member) -> list[str]:
        operator, account_id = self._tree.operator, self._tree.account_id(member.name)
        first = sum(islice(shared_out(self._size.endpoints).values(), ENTERPRISES.index(member)))
        sims = [
            _sim(self._size.label, first + number) for number in range(shared_out(self._size.endpoints)[member.name])
        ]
        ids: list[str] = []
        for number, chunk in enumerate(_chunks(sims)):
            request = ImportSimsRequest(sims=chunk, account_id=account_id)
            imported = await operator.once(operator.sims.ImportSims, request, "sims", member.name, str(number))
            ids.extend(sim.id for sim in imported.sims)
        return ids

    async def _create_endpoints(self, member: Member, requests: Sequence[CreateEndpointRequest]) -> None:
        actor, ids = self._tree.actor(member.name), self._tree.endpoints.setdefault(member.name, [])
        for number, chunk in enumerate(_chunks(requests)):
            batch = BatchCreateEndpointsRequest(requests=chunk)
            created = await actor.once(actor.endpoints.BatchCreateEndpoints, batch, "endpoints", str(number))
            ids.extend(endpoint.id for endpoint in created.endpoints)

    async def _top_up(self, name: str, amount: Money, every: int) -> None:
        actor, at_once = self._tree.actor(name), asyncio.Semaphore(TOP_UPS_AT_ONCE)

        async def top_up(endpoint_id: str) -> None:
            async with at_once:
                request = TopUpBalanceRequest(endpoint_id=endpoint_id, amount=amount)
                await actor.once(actor.balances.TopUpBalance, request, "money", endpoint_id)

        self._tree.topped_up[name] = self._tree.endpoints[name][::every]
        await asyncio.gather(*map(top_up, self._tree.topped_up[name]))


def _chunks(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]


def _company(member: Member, size: Size) -> Company:
    reseller = member.kind == AccountKind.ACCOUNT_KIND_RESELLER
    number = phonenumbers.example_number(member.country)
    return Company(
        name=f"{member.name} Ltd, {size.label}",
        type=CompanyType.COMPANY_TYPE_RESELLER if reseller else CompanyType.COMPANY_TYPE_CUSTOMER,
        phone_number=phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164) if number else "",
        address=Address(country=member.country, city=member.city, street="Main Street", number="1"),
    )


def _sim(label: str, number: int) -> Sim:
    """A SIM with numbers that follow from the demo and its place in it (ITU-T E.118, E.212)."""
    block = int.from_bytes(derived_id("blk", label).encode()[-8:], "big") % 10_000
    body = f"8932{block:04d}{number:010d}"
    return Sim(iccid=body + luhn.calc_check_digit(body), imsi=f"20601{block:04d}{number:06d}")
