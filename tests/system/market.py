"""Builds companies, accounts, prices, plans and endpoints through HTTP, each as the account whose business it is."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stdnum import luhn

from meterline.rating.v1 import charging_pb2
from meterline.type.v1 import service_pb2
from tests.system.stranger import Json, Stranger, fresh

MB, GB = 10**6, 10**9
BE, DE, ZA, UNCOVERED = "net_20601", "net_26201", "net_65501", "net_310410"
EU = ["BE", "DE"]
ALL_ACCESS = ["ACCESS_TYPE_2G", "ACCESS_TYPE_3G", "ACCESS_TYPE_4G", "ACCESS_TYPE_5G"]
SERVICES = [{"service": name, "access_types": ALL_ACCESS} for name in ("SERVICE_DATA", "SERVICE_SMS_MO")]
NETWORKS = [
    {"mcc": mcc, "mnc": mnc, "country_code": country, "operator": name, "operational": True}
    for mcc, mnc, country, name in (
        ("206", "01", "BE", "Proximus"),
        ("262", "01", "DE", "Telekom"),
        ("655", "01", "ZA", "Vodacom"),
        ("310", "410", "US", "AT&T"),
    )
]
_sims = itertools.count(int(time.time()) % 10**6 * 10**4)


def eur(units: int, nanos: int = 0) -> Json:
    """An amount of money."""
    return {"currency_code": "EUR", "units": str(units), "nanos": nanos}


def usage(endpoint_id: str, quantity: int, **fields: Any) -> charging_pb2.UsageEvent:
    """An event of this moment in Belgium, over 4G, that asks first; name what is different."""
    values: dict[str, Any] = {
        "event_id": fresh("event"),
        "endpoint_id": endpoint_id,
        "service": service_pb2.SERVICE_DATA,
        "network_id": BE,
        "access_type": service_pb2.ACCESS_TYPE_4G,
        "usage_time_ms": time.time_ns() // 10**6,
        "quantity": quantity,
        "mode": charging_pb2.USAGE_MODE_ONLINE,
    }
    return charging_pb2.UsageEvent(**{**values, **fields})


@dataclass(frozen=True, slots=True)
class Market:
    """The accounts of the worked example (model, section 6) as callers, and what they made.

    Attributes:
        prepaid_plan: the DEFAULT PREPAID PLAN of the enterprise.
        addon_a: its add-on of 500 MB in the EU.
        addon_b: the same, from its first use for 7 days.
    """

    operator: Stranger
    reseller: Stranger
    enterprise: Stranger
    prepaid_plan: str
    addon_a: str
    addon_b: str

    async def endpoint(self, plan_id: str = "", addons: Sequence[str] = ()) -> str:
        """A new ACTIVE endpoint of the enterprise, with a SIM of its own; returns its id."""
        (made,) = await self.endpoints(1, plan_id, addons)
        return made

    async def endpoints(self, count: int, plan_id: str = "", addons: Sequence[str] = ()) -> list[str]:
        """New ACTIVE endpoints of the enterprise; returns their ids."""
        sims = {"sims": [sim() for _ in range(count)], "account_id": self.enterprise.account_id}
        imported = (await self.operator.post("/v1/sims:import", sims))["sims"]
        plan = {"plan_id": plan_id or self.prepaid_plan, "addon_plan_ids": list(addons), "activate": True}
        requests = [{"endpoint": {"name": fresh("device"), "sim_id": sim["id"]}, **plan} for sim in imported]
        made = await self.enterprise.post("/v1/endpoints:batchCreate", {"requests": requests})
        return [endpoint["id"] for endpoint in made["endpoints"]]


def sim() -> Json:
    """A SIM that was never seen."""
    number = next(_sims)
    body = f"89320{number:013d}"
    return {"iccid": body + luhn.calc_check_digit(body), "imsi": f"20601{number:010d}"}


async def company(seller: Stranger) -> str:
    """A new customer of an account; returns its id."""
    address = {"country": "BE", "city": "Brussels", "street": "Rue Lebeau", "number": "4"}
    body = {"name": fresh("Company"), "type": "COMPANY_TYPE_CUSTOMER", "phone_number": "+3225476111"}
    return str((await seller.post("/v1/companies", {**body, "address": address}))["id"])


async def account(parent: Stranger, kind: str, **fields: Any) -> Stranger:
    """A new ACTIVE account below another, made by it; returns its holder."""
    body = {"kind": f"ACCOUNT_KIND_{kind}", "parent_id": parent.account_id, "name": fresh(kind.capitalize())}
    body |= {"company_id": await company(parent), "currency": "EUR", **fields}
    made = await parent.post("/v1/accounts", body, activate="true")
    return await parent.act_as(made["id"])


async def zone(owner: Stranger, countries: Sequence[str]) -> str:
    """A rate zone of some countries."""
    return str((await owner.post("/v1/rate-zones", {"name": fresh("zone"), "country_codes": list(countries)}))["id"])


async def tariff(owner: Stranger, zone_id: str, units: int) -> str:
    """A published tariff of so many euro for a gigabyte, in one zone."""
    rate = {"rate_zone_id": zone_id, "services": ["SERVICE_DATA"], "price": eur(units), "per_quantity": str(GB)}
    made = await owner.post("/v1/tariffs", {"name": fresh("tariff"), "currency": "EUR", "rates": [rate]})
    await owner.post(f"/v1/tariffs/{made['id']}:publish")
    return str(made["id"])


async def service_profile(owner: Stranger) -> str:
    """A service profile with data and messages."""
    return str((await owner.post("/v1/service-profiles", {"name": fresh("profile"), "services": SERVICES}))["id"])


async def plan(owner: Stranger, **fields: Any) -> str:
    """A published plan."""
    made = await owner.post("/v1/plans", {"name": fresh("plan"), "currency": "EUR", **fields})
    await owner.post(f"/v1/plans/{made['id']}:publish")
    return str(made["id"])


async def base_plan(owner: Stranger, tariff_id: str, profile_id: str, mode: str = "POSTPAID") -> str:
    """A published base plan."""
    fields = {"charging_mode": f"CHARGING_MODE_{mode}", "service_profile_id": profile_id, "tariff_id": tariff_id}
    return await plan(owner, type="PLAN_TYPE_BASE", **fields)


async def addon(owner: Stranger, profile_id: str, zone_id: str, quantity: int, **fields: Any) -> str:
    """A published add-on of data in one zone."""
    benefit = {"services": ["SERVICE_DATA"], "quantity": str(quantity)}
    fields = {"service_profile_id": profile_id, "rate_zone_ids": [zone_id], "benefits": [benefit], **fields}
    return await plan(owner, type="PLAN_TYPE_ADDON", **fields)


async def default_of(owner: Stranger, collection: str, name: str) -> Json:
    """The element with which an enterprise was born, by its name."""
    listed = await owner.get(f"/v1/{collection}", account_id=owner.account_id)
    found = [item for item in listed[collection.replace("-", "_")] if item["name"] == name]
    assert len(found) == 1, listed
    return dict(found[0])


async def build_market(operator: Stranger) -> Market:
    """Wholesale at 1 EUR/GB with a credit limit of 100 EUR, retail at 2 EUR/GB with an account add-on of 1 GB."""
    await operator.post("/v1/networks:import", {"networks": NETWORKS})
    cover = {"country_codes": [*EU, "ZA"]}
    await operator.post(f"/v1/accounts/{operator.account_id}/coverage:add", cover)
    reseller = await account(operator, "RESELLER", credit_limit=eur(100))
    await operator.post(f"/v1/accounts/{reseller.account_id}/coverage:add", cover)
    await _sell(operator, reseller, 1)
    enterprise = await account(reseller, "ENTERPRISE")
    eu, profile_id = await _sell(reseller, enterprise, 2)
    gigabyte = await addon(reseller, profile_id, eu, GB)
    await reseller.post(f"/v1/accounts/{enterprise.account_id}/plans", {"plan_id": gigabyte})
    own_eu = await zone(enterprise, EU)
    default = (await default_of(enterprise, "service-profiles", "DEFAULT"))["id"]
    later = {"activation": "ACTIVATION_ON_USAGE", "validity": f"{7 * 86_400}s", "priority": 2}
    return Market(
        operator,
        reseller,
        enterprise,
        (await default_of(enterprise, "plans", "DEFAULT PREPAID PLAN"))["id"],
        await addon(enterprise, default, own_eu, 500 * MB, priority=1),
        await addon(enterprise, default, own_eu, 500 * MB, **later),
    )


async def _sell(seller: Stranger, buyer: Stranger, units: int) -> tuple[str, str]:
    """Price a buyer's use in the EU; returns the zone and the service profile."""
    eu, profile_id = await zone(seller, EU), await service_profile(seller)
    price = await base_plan(seller, await tariff(seller, eu, units), profile_id)
    await seller.post(f"/v1/accounts/{buyer.account_id}/plans", {"plan_id": price})
    return eu, profile_id
