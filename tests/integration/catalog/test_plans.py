import pytest
from google.protobuf.duration_pb2 import Duration

from meterline.catalog.v1 import plans_pb2
from meterline.type.v1 import service_pb2 as types
from tests.integration.catalog.world import access, account, eur, rate, refused

BASE, ADDON = plans_pb2.PLAN_TYPE_BASE, plans_pb2.PLAN_TYPE_ADDON
PREPAID, POSTPAID = plans_pb2.CHARGING_MODE_PREPAID, plans_pb2.CHARGING_MODE_POSTPAID
DRAFT, PUBLISHED, RETIRED = plans_pb2.PLAN_STATE_DRAFT, plans_pb2.PLAN_STATE_PUBLISHED, plans_pb2.PLAN_STATE_RETIRED


def data(quantity=500_000_000, **fields):
    return plans_pb2.Benefit(services=[types.SERVICE_DATA], quantity=quantity, **fields)


def base(made, **fields):
    own = {
        "name": "Base",
        "type": BASE,
        "charging_mode": POSTPAID,
        "service_profile_id": made.service_profile_id,
        "roaming_profile_id": made.roaming_profile_id,
    }
    return {**own, **fields}


@pytest.mark.requirement("R054", "R056", "R057", "R058", "R059", "R060", "R061", "R062", "R067", "R085")
async def test_a_base_plan_says_what_is_charged_which_services_and_where(world):
    made = await world.covered()
    enterprise = world.as_("enterprise")
    zone = await enterprise.new_zone("Belgium", countries=("BE",))
    tariff = await enterprise.new_tariff("Retail", rate(zone))
    plan = await enterprise.new_plan(
        **base(
            made,
            currency="EUR",
            tariff_id=tariff.id,
            benefits=[data(rate_zone_ids=[zone], recurrence=plans_pb2.RECURRENCE_RECURRING)],
            charges=[
                plans_pb2.PlanCharge(name="Monthly", trigger=plans_pb2.CHARGE_TRIGGER_CYCLE, amount=eur(2, 500_000))
            ],
            counters=[plans_pb2.Counter(name="Data", services=[types.SERVICE_DATA])],
            notifications=[plans_pb2.PlanNotification(threshold_percent=80)],
            labels=["iot"],
            carrier="Proximus",
            prorated=True,
        )
    )
    assert (plan.state, plan.version, plan.product_kind) == (DRAFT, 1, plans_pb2.PRODUCT_KIND_STANDARD)
    assert (plan.activation, plan.on_depletion) == (0, plans_pb2.ON_DEPLETION_BLOCK_TRAFFIC)
    assert (plan.charges[0].amount, plan.benefits[0].benefit_id) == (eur(2, 500_000), "b1")
    async with refused("FAILED_PRECONDITION", "TARIFF_NOT_PUBLISHED"):
        await enterprise.publish_plan(plan.id)
    await enterprise.publish_tariff(tariff.id)
    published = await enterprise.publish_plan(plan.id)
    assert published.state == PUBLISHED
    assert await enterprise.plan(plan.id) == published


@pytest.mark.requirement("R068", "R071", "R072", "R073", "R079", "R080", "R081", "R082", "R083", "R084", "R287")
async def test_an_addon_brings_volumes_with_priority_activation_validity_and_zones(world):
    made = await world.covered()
    enterprise = world.as_("enterprise")
    zone = await enterprise.new_zone("Germany", countries=("DE",))
    addon = await enterprise.new_addon(
        made.service_profile_id,
        benefits=[
            data(),
            plans_pb2.Benefit(
                benefit_id="sms",
                services=[types.SERVICE_SMS_MT, types.SERVICE_SMS_MO],
                quantity=100,
                recurrence=plans_pb2.RECURRENCE_RECURRING,
            ),
        ],
        priority=7,
        activation=plans_pb2.ACTIVATION_ON_USAGE,
        validity=Duration(seconds=7 * 86_400),
        rate_zone_ids=[zone],
        notifications=[plans_pb2.PlanNotification(threshold_percent=100)],
        currency="EUR",
        charges=[
            plans_pb2.PlanCharge(name="Once", trigger=plans_pb2.CHARGE_TRIGGER_ACTIVATION, amount=eur(5)),
            plans_pb2.PlanCharge(name="Monthly", trigger=plans_pb2.CHARGE_TRIGGER_CYCLE, amount=eur(1)),
        ],
    )
    assert [(charge.name, charge.trigger, charge.amount.units) for charge in addon.charges] == [
        ("Once", 2, 5),
        ("Monthly", 3, 1),
    ]
    assert (addon.priority, addon.activation, addon.validity.seconds) == (7, plans_pb2.ACTIVATION_ON_USAGE, 604_800)
    assert [(b.benefit_id, list(b.services), b.recurrence) for b in addon.benefits] == [
        ("b1", [1], 1),
        ("sms", [2, 3], 2),
    ]
    assert addon.charging_mode == 0
    plain = await enterprise.new_addon(made.service_profile_id, name="Plain")
    assert (plain.activation, plain.HasField("validity")) == (plans_pb2.ACTIVATION_ON_SUBSCRIPTION, False)
    listed = await enterprise.list_plans(type=ADDON, state=DRAFT)
    assert {plan.name for plan in listed} == {"Addon", "Plain"}


@pytest.mark.requirement("R043", "R044")
async def test_no_plan_without_a_service_profile(small_world):
    made = await small_world.covered()
    enterprise = small_world.as_("enterprise")
    for fields in (base(made, service_profile_id=""), {"name": "A", "type": ADDON}):
        async with refused("INVALID_ARGUMENT", "FIELD_REQUIRED", "plan.service_profile_id"):
            await enterprise.new_plan(**fields)
    unknown = made.service_profile_id[:-1] + ("0" if made.service_profile_id[-1] != "0" else "1")
    async with refused("INVALID_ARGUMENT", "REFERENCE_NOT_FOUND", "plan.service_profile_id"):
        await enterprise.new_addon(unknown)


async def test_what_belongs_to_one_type_of_plan_is_refused_in_the_other(small_world):
    made = await small_world.covered()
    enterprise = small_world.as_("enterprise")
    zone = await enterprise.new_zone("BE", countries=("BE",))
    tariff = await enterprise.new_tariff("Retail", rate())
    for field, value in [
        ("priority", 1),
        ("activation", plans_pb2.ACTIVATION_ON_USAGE),
        ("validity", Duration(seconds=60)),
        ("rate_zone_ids", [zone]),
    ]:
        async with refused("INVALID_ARGUMENT", "FIELD_NOT_FOR_BASE_PLAN", f"plan.{field}"):
            await enterprise.new_plan(**base(made, **{field: value}))
    for field, value in [
        ("charging_mode", PREPAID),
        ("roaming_profile_id", made.roaming_profile_id),
        ("tariff_id", tariff.id),
        ("product_kind", plans_pb2.PRODUCT_KIND_PAYGO),
    ]:
        async with refused("INVALID_ARGUMENT", "FIELD_NOT_FOR_ADDON_PLAN", f"plan.{field}"):
            await enterprise.new_addon(made.service_profile_id, **{field: value})
    async with refused("INVALID_ARGUMENT", "FIELD_REQUIRED", "plan.type"):
        await enterprise.new_plan(**base(made, type=0))
    async with refused("INVALID_ARGUMENT", "FIELD_REQUIRED", "plan.charging_mode"):
        await enterprise.new_plan(**base(made, charging_mode=0))
    async with refused("INVALID_ARGUMENT", "FIELD_REQUIRED", "plan.roaming_profile_id"):
        await enterprise.new_plan(**base(made, roaming_profile_id=""))


@pytest.mark.requirement("R292")
async def test_the_kinds_of_products_are_paid_as_their_nature_is(small_world):
    made = await small_world.covered()
    enterprise = small_world.as_("enterprise")
    kinds = dict(plans_pb2.ProductKind.items())
    prepaid = {"PRODUCT_KIND_PREPAID_BUNDLE", "PRODUCT_KIND_PAYGO"}
    for name in set(kinds) - {"PRODUCT_KIND_UNSPECIFIED", "PRODUCT_KIND_STANDARD"}:
        good, bad = (PREPAID, POSTPAID) if name in prepaid else (POSTPAID, PREPAID)
        async with refused("INVALID_ARGUMENT", "CHARGING_MODE_OF_KIND", "plan.charging_mode"):
            await enterprise.new_plan(**base(made, name=name, product_kind=kinds[name], charging_mode=bad))
        plan = await enterprise.new_plan(**base(made, name=name, product_kind=kinds[name], charging_mode=good))
        suspends = plan.on_depletion == plans_pb2.ON_DEPLETION_SUSPEND
        assert suspends == (name == "PRODUCT_KIND_PREPAID_BUNDLE")
        if name in {"PRODUCT_KIND_PAYGO", "PRODUCT_KIND_SUBSCRIPTION_PAY_PER_MB"}:
            async with refused("FAILED_PRECONDITION", "TARIFF_REQUIRED"):
                await enterprise.publish_plan(plan.id)
        else:
            await enterprise.publish_plan(plan.id)


async def test_benefits_fit_their_services(small_world):
    made = await small_world.covered()
    enterprise = small_world.as_("enterprise")
    profile = (
        await enterprise.new_service_profile("Data", access(types.SERVICE_DATA), access(types.SERVICE_SMS_MO))
    ).id
    mixed = plans_pb2.Benefit(services=[types.SERVICE_DATA, types.SERVICE_SMS_MO], quantity=1)
    async with refused("INVALID_ARGUMENT", "UNITS_MIXED", "plan.benefits[1].services"):
        await enterprise.new_addon(profile, benefits=[data(), mixed])
    counter = plans_pb2.Counter(name="all", services=[types.SERVICE_DATA, types.SERVICE_SMS_MO])
    async with refused("INVALID_ARGUMENT", "UNITS_MIXED", "plan.counters[0].services"):
        await enterprise.new_plan(**base(made, service_profile_id=profile, counters=[counter]))
    outside = plans_pb2.Benefit(services=[types.SERVICE_SMS_MT], quantity=1)
    async with refused("INVALID_ARGUMENT", "BENEFIT_OUTSIDE_SERVICE_PROFILE", "plan.benefits[0].services"):
        await enterprise.new_addon(profile, benefits=[outside])
    async with refused("INVALID_ARGUMENT", "BENEFIT_ID_TWICE", "plan.benefits[1].benefit_id"):
        await enterprise.new_addon(profile, benefits=[data(benefit_id="x"), data(benefit_id="x")])
    for quantity in (0, -1, 2**50 + 1):
        with pytest.raises(Exception, match=r"plan\.benefits\[0\]\.quantity"):
            await enterprise.new_addon(profile, benefits=[data(quantity)])
    for seconds, nanos in ((0, 0), (-1, 0), (1, 500), (21 * 366 * 86_400, 0)):
        async with refused("INVALID_ARGUMENT", "FIELD_INVALID", "plan.validity"):
            await enterprise.new_addon(profile, validity=Duration(seconds=seconds, nanos=nanos))
    assert (await enterprise.new_addon(profile, benefits=[data(2**50)])).benefits[0].quantity == 2**50


async def test_currencies_agree(small_world):
    made = await small_world.covered()
    enterprise = small_world.as_("enterprise")
    fee = plans_pb2.PlanCharge(name="Fee", trigger=plans_pb2.CHARGE_TRIGGER_ASSIGNMENT, amount=eur(1))
    async with refused("INVALID_ARGUMENT", "CURRENCY_MISMATCH", "plan.charges[0].amount"):
        await enterprise.new_plan(**base(made, currency="USD", charges=[fee]))
    fee.amount.currency_code = ""
    async with refused("INVALID_ARGUMENT", "CURRENCY_REQUIRED", "plan.currency"):
        await enterprise.new_plan(**base(made, charges=[fee]))
    tariff = await enterprise.new_tariff("Dollars", rate(price=eur(1, currency="USD")), currency="USD")
    await enterprise.publish_tariff(tariff.id)
    plan = await enterprise.new_plan(**base(made, currency="EUR", tariff_id=tariff.id))
    async with refused("FAILED_PRECONDITION", "CURRENCY_MISMATCH"):
        await enterprise.publish_plan(plan.id)
    await enterprise.change_plan(plan.id, currency="USD")
    await enterprise.publish_plan(plan.id)
    async with refused("INVALID_ARGUMENT", "FIELD_IMMUTABLE", "plan.currency"):
        await enterprise.change_plan(plan.id, currency="EUR")


async def test_a_published_plan_changes_by_a_new_version(world):
    made = await world.covered()
    enterprise = world.as_("enterprise")
    plan = await enterprise.new_plan(**base(made))
    plan = await enterprise.change_plan(plan.id, name="Renamed draft")
    assert (plan.version, plan.state) == (1, DRAFT)
    first = await enterprise.publish_plan(plan.id)
    second = await enterprise.change_plan(plan.id, benefits=[data()])
    assert (second.version, second.state, second.etag) == (2, PUBLISHED, str(int(first.etag) + 1))
    old = await enterprise.plan(plan.id, 1)
    assert (old.version, old.state, len(old.benefits), old.etag) == (1, PUBLISHED, 0, first.etag)
    assert (await enterprise.plan(plan.id)).version == 2
    async with refused("NOT_FOUND", "PLAN_VERSION_NOT_FOUND"):
        await enterprise.plan(plan.id, 3)
    for field, value in [("type", ADDON), ("charging_mode", PREPAID), ("account_id", account("sibling"))]:
        async with refused("INVALID_ARGUMENT", "FIELD_IMMUTABLE", f"plan.{field}"):
            await enterprise.change_plan(plan.id, **{field: value})
    async with refused("FAILED_PRECONDITION", "PLAN_STATE"):
        await enterprise.publish_plan(plan.id)
    async with refused("FAILED_PRECONDITION", "PLAN_STATE"):
        await enterprise.call(enterprise.plans.DeletePlan, plans_pb2.DeletePlanRequest(plan_id=plan.id))


async def test_a_part_of_an_update_is_as_complete_as_in_a_creation(small_world):
    made = await small_world.covered()
    enterprise = small_world.as_("enterprise")
    plan = await enterprise.new_plan(**base(made, benefits=[data()]))
    nothing = plans_pb2.Benefit(services=[types.SERVICE_DATA])
    for mask in ((), ("benefits",), ("*",)):
        async with refused("INVALID_ARGUMENT", "FIELD_REQUIRED", "plan.benefits[0].quantity"):
            await enterprise.change_plan(plan.id, *mask, name="Base", benefits=[nothing])
    assert (await enterprise.change_plan(plan.id, "name", name="Other", benefits=[nothing])).benefits == plan.benefits


async def test_a_retired_plan_stays_as_it_is(world):
    made = await world.covered()
    enterprise = world.as_("enterprise")
    plan = await enterprise.new_plan(**base(made))
    retire = plans_pb2.RetirePlanRequest(plan_id=plan.id)
    async with refused("FAILED_PRECONDITION", "PLAN_STATE"):
        await enterprise.call(enterprise.plans.RetirePlan, retire)
    await enterprise.publish_plan(plan.id)
    await enterprise.change_plan(plan.id, description="second version")
    retired = await enterprise.call(enterprise.plans.RetirePlan, retire)
    assert retired.state == RETIRED
    assert await enterprise.call(enterprise.plans.RetirePlan, retire) == retired
    assert (await enterprise.plan(plan.id, 1)).state == RETIRED
    async with refused("FAILED_PRECONDITION", "PLAN_RETIRED"):
        await enterprise.change_plan(plan.id, name="Again")
    clone = await enterprise.clone_plan(plan.id, "Again")
    assert (clone.state, clone.version, clone.description) == (DRAFT, 1, "second version")


@pytest.mark.requirement("R290", "R289")
async def test_plans_are_listed_with_what_a_table_of_them_shows(world):
    made = await world.covered()
    enterprise = world.as_("enterprise")
    await enterprise.new_plan(**base(made, name="Fleet Ü", carrier="Orange", labels=["a", "b"], prorated=True))
    (row,) = await enterprise.list_plans(query="fleet ü")
    shown = (row.name, row.type, row.carrier, row.account_id, list(row.labels), row.prorated)
    assert shown == ("Fleet Ü", BASE, "Orange", account("enterprise"), ["a", "b"], True)
    assert {plan.name for plan in await enterprise.list_plans(state=PUBLISHED)} == {
        "DEFAULT PREPAID PLAN",
        "DEFAULT POSTPAID PLAN",
    }


@pytest.mark.requirement("R257", "R286", "R156")
async def test_a_plan_is_seen_by_its_owner_from_above_and_by_those_it_is_designated_to(world):
    made = await world.covered()
    reseller = world.as_("reseller")
    profile = (await reseller.new_service_profile("All", access(types.SERVICE_DATA))).id
    own = {"type": BASE, "charging_mode": POSTPAID, "service_profile_id": profile}
    price = await reseller.new_plan(
        name="Price to the enterprise", designated_account_ids=[account("enterprise")], **own
    )
    await reseller.new_plan(name="Price to all", **own)

    async def names(name):
        return {plan.name for plan in await world.as_(name).list_plans() if not plan.system_managed}

    assert await names("operator") == await names("reseller") == {"Price to the enterprise", "Price to all"}
    assert await names("enterprise") == await names("sub") == {"Price to the enterprise"}
    assert await names("sibling") == await names("stranger") == set()
    enterprise = world.as_("enterprise")
    assert (await enterprise.plan(price.id)).roaming_profile_id == ""
    async with refused("PERMISSION_DENIED", "PLAN_OF_OTHER_ACCOUNT"):
        await enterprise.change_plan(price.id, name="Mine")
    async with refused("PERMISSION_DENIED", "PLAN_OF_OTHER_ACCOUNT"):
        await enterprise.publish_plan(price.id)
    async with refused("PERMISSION_DENIED", "PLAN_OF_OTHER_ACCOUNT"):
        await enterprise.clone_plan(price.id, "Mine")
    async with refused("NOT_FOUND", "PLAN_NOT_FOUND"):
        await world.as_("sibling").plan(price.id)
    await reseller.change_plan(price.id, "designated_account_ids", designated_account_ids=[account("sibling")])
    assert (await names("enterprise"), await names("sibling")) == (set(), {"Price to the enterprise"})
    for foreign in ("stranger", "reseller", "nobody"):
        async with refused("INVALID_ARGUMENT", "ACCOUNT_NOT_BELOW", "plan.designated_account_ids"):
            await reseller.change_plan(price.id, designated_account_ids=[account(foreign)])
    assert made.prepaid_plan_id in {plan.id for plan in await reseller.list_plans(account_id=account("enterprise"))}


async def test_a_plan_references_only_what_its_account_owns(small_world):
    made = await small_world.covered()
    reseller, enterprise = small_world.as_("reseller"), small_world.as_("enterprise")
    tariff = await reseller.new_tariff("Wholesale", rate())
    zone = await reseller.new_zone("BE", countries=("BE",))
    async with refused("INVALID_ARGUMENT", "REFERENCE_NOT_FOUND", "plan.tariff_id"):
        await enterprise.new_plan(**base(made, currency="EUR", tariff_id=tariff.id))
    async with refused("INVALID_ARGUMENT", "REFERENCE_NOT_FOUND", "plan.benefits[0].rate_zone_ids"):
        await enterprise.new_plan(**base(made, benefits=[data(rate_zone_ids=[zone])]))
    async with refused("INVALID_ARGUMENT", "REFERENCE_NOT_FOUND", "plan.rate_zone_ids"):
        await enterprise.new_addon(made.service_profile_id, rate_zone_ids=[zone])
    async with refused("INVALID_ARGUMENT", "REFERENCE_NOT_FOUND", "plan.service_profile_id"):
        await reseller.new_addon(made.service_profile_id)


async def test_a_clone_for_another_account_takes_that_accounts_defaults(small_world):
    made = await small_world.covered()
    other = await small_world.as_service().provision("sibling")
    reseller = small_world.as_("reseller")
    clone = await reseller.clone_plan(made.postpaid_plan_id, "For the sibling", account("sibling"))
    assert (clone.account_id, clone.service_profile_id, clone.roaming_profile_id) == (
        account("sibling"),
        other.service_profile_id,
        other.roaming_profile_id,
    )
    assert (await small_world.as_("sibling").plan(clone.id)).name == "For the sibling"
    async with refused("NOT_FOUND", "ACCOUNT_NOT_FOUND"):
        await small_world.as_("enterprise").clone_plan(made.postpaid_plan_id, "Theirs", account("sibling"))
    async with refused("ALREADY_EXISTS", "NAME_TAKEN"):
        await reseller.clone_plan(made.postpaid_plan_id, "For the sibling", account("sibling"))
