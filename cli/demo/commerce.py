"""What an account of the demo sells: its zones, tariffs, profiles and plans in the catalog."""

from collections.abc import Iterable, Sequence

from google.protobuf.duration_pb2 import Duration

from cli.demo import tariffs
from cli.demo.actor import Actor
from cli.demo.networks import World, network_id
from cli.demo.scenario import Addon
from meterline.catalog.v1.plans_pb2 import (
    Benefit,
    ChargingMode,
    CreatePlanRequest,
    ListPlansRequest,
    Plan,
    PlanType,
    PublishPlanRequest,
    Recurrence,
)
from meterline.catalog.v1.profiles_pb2 import (
    CreateRoamingProfileRequest,
    CreateServiceProfileRequest,
    ListRoamingProfilesRequest,
    ListServiceProfilesRequest,
    RoamingProfile,
    ServiceAccess,
    ServiceProfile,
)
from meterline.catalog.v1.tariffs_pb2 import CreateRateZoneRequest, CreateTariffRequest, PublishTariffRequest, RateZone
from meterline.type.v1.service_pb2 import AccessType, Service

ALL_SERVICES = tuple(number for number in Service.values() if number)
ALL_ACCESS = tuple(number for number in AccessType.values() if number)
DAY_S = 24 * 3600


def accesses(services: "Iterable[Service.ValueType]") -> list[ServiceAccess]:
    """Services, each over every access type."""
    return [ServiceAccess(service=service, access_types=ALL_ACCESS) for service in services]


class Commerce:
    """Creates what an account sells, each thing once however often the demo runs.

    Args:
        actor: the account.
        world: the networks, for zones.
        label: what tells this demo's names from another's.
        records: of the demo, for what scales with them.
    """

    def __init__(self, actor: Actor, world: World, label: str, records: int) -> None:
        self._actor, self._world, self._label, self._records = actor, world, label, records
        self._zones: dict[str, str] = {}

    def _named(self, name: str) -> str:
        return f"{name}, {self._label}"

    async def zone(self, region: str) -> str:
        """The rate zone of a region: all its countries."""
        if region not in self._zones:
            zone = RateZone(name=self._named(region), country_codes=self._world.regions[region])
            request = CreateRateZoneRequest(rate_zone=zone)
            self._zones[region] = (
                await self._actor.once(self._actor.tariffs.CreateRateZone, request, "zone", region)
            ).id
        return self._zones[region]

    async def zones(self, regions: Iterable[str]) -> list[str]:
        """The rate zones of regions."""
        return [await self.zone(region) for region in regions]

    async def tariff(self, prices: tariffs.PriceList) -> str:
        """A published tariff with the prices of a real list."""
        zones = {price.region: await self.zone(price.region) for price in prices.prices if price.region}
        draft = tariffs.tariff(prices, self._named(prices.name), zones)
        request = CreateTariffRequest(tariff=draft)
        created = await self._actor.once(self._actor.tariffs.CreateTariff, request, "tariff", prices.name)
        publish = PublishTariffRequest(tariff_id=created.id)
        await self._actor.once(self._actor.tariffs.PublishTariff, publish, "publish tariff", prices.name)
        return created.id

    async def default_service_profile(self) -> str:
        """The DEFAULT service profile of an enterprise."""
        request = ListServiceProfilesRequest(account_id=self._actor.account_id)
        profiles = (await self._actor.call(self._actor.profiles.ListServiceProfiles, request)).service_profiles
        return next(profile.id for profile in profiles if profile.system_managed)

    async def default_roaming_profile(self) -> str:
        """The DEFAULT roaming profile of an enterprise."""
        request = ListRoamingProfilesRequest(account_id=self._actor.account_id)
        profiles = (await self._actor.call(self._actor.profiles.ListRoamingProfiles, request)).roaming_profiles
        return next(profile.id for profile in profiles if profile.system_managed)

    async def default_prepaid_plan(self) -> str:
        """The DEFAULT PREPAID PLAN of an enterprise."""
        request = ListPlansRequest(account_id=self._actor.account_id, type=PlanType.PLAN_TYPE_BASE)
        plans = (await self._actor.call(self._actor.plans.ListPlans, request)).plans
        prepaid = ChargingMode.CHARGING_MODE_PREPAID
        return next(plan.id for plan in plans if plan.system_managed and plan.charging_mode == prepaid)

    async def service_profile(self, services: "Sequence[Service.ValueType]" = ALL_SERVICES) -> str:
        """A custom service profile."""
        name = "+".join(Service.Name(service).removeprefix("SERVICE_") for service in services)
        profile = ServiceProfile(name=self._named(name), services=accesses(services))
        request = CreateServiceProfileRequest(service_profile=profile)
        return (await self._actor.once(self._actor.profiles.CreateServiceProfile, request, "services", name)).id

    async def roaming_profile(self, regions: Sequence[str]) -> str:
        """A custom roaming profile: the networks of some regions."""
        inside = {country for region in regions for country in self._world.regions[region]}
        networks = sorted(network_id(n) for n in self._world.networks if n.country_code[:2] in inside)
        name = " and ".join(regions)
        profile = RoamingProfile(name=self._named(name), network_ids=networks)
        request = CreateRoamingProfileRequest(roaming_profile=profile)
        return (await self._actor.once(self._actor.profiles.CreateRoamingProfile, request, "roaming", name)).id

    async def base_plan(
        self,
        prices: tariffs.PriceList,
        mode: "ChargingMode.ValueType",
        service_profile_id: str,
        roaming_profile_id: str = "",
        benefit: "tuple[Sequence[Service.ValueType], int] | None" = None,
    ) -> str:
        """A published base plan at the prices of a real list, with a benefit in each cycle."""
        name = f"{ChargingMode.Name(mode).rpartition('_')[2].capitalize()} at {prices.name}"
        plan = Plan(
            name=self._named(name),
            type=PlanType.PLAN_TYPE_BASE,
            charging_mode=mode,
            currency=prices.currency,
            service_profile_id=service_profile_id,
            roaming_profile_id=roaming_profile_id,
            tariff_id=await self.tariff(prices),
        )
        if benefit:
            services, quantity = benefit
            plan.benefits.add(services=services, quantity=quantity, recurrence=Recurrence.RECURRENCE_RECURRING)
        return await self._published(plan, name)

    async def addon(self, addon: Addon, service_profile_id: str) -> str:
        """A published add-on plan."""
        plan = Plan(
            name=self._named(addon.name),
            type=PlanType.PLAN_TYPE_ADDON,
            service_profile_id=service_profile_id,
            priority=addon.priority,
            activation=addon.activation,
            rate_zone_ids=await self.zones(addon.regions),
            benefits=[Benefit(services=of, quantity=addon.volume(much, self._records)) for of, much in addon.benefits],
            description=f"After {addon.source} of data/tariffs.json.",
        )
        if addon.validity_days:
            plan.validity.CopyFrom(Duration(seconds=addon.validity_days * DAY_S))
        return await self._published(plan, addon.name)

    async def _published(self, plan: Plan, name: str) -> str:
        created = await self._actor.once(self._actor.plans.CreatePlan, CreatePlanRequest(plan=plan), "plan", name)
        publish = PublishPlanRequest(plan_id=created.id)
        await self._actor.once(self._actor.plans.PublishPlan, publish, "publish plan", name)
        return created.id
