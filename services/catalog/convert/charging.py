"""What rating and accounts read of the catalogue."""

from meterline.catalog.v1 import charging_catalog_pb2 as pb
from services.catalog.convert.plans import plan_to_proto
from services.catalog.convert.profiles import roaming_profile_to_proto, service_profile_to_proto
from services.catalog.convert.tariffs import rate_zone_to_proto, tariff_to_proto
from services.catalog.usecases.charging import PlanVersions
from services.catalog.usecases.defaults import Defaults


def provisioned_to_proto(defaults: Defaults) -> pb.ProvisionDefaultsResponse:
    """Write which DEFAULT elements were provisioned."""
    return pb.ProvisionDefaultsResponse(
        service_profile_id=defaults.service_profile_id,
        roaming_profile_id=defaults.roaming_profile_id,
        apn_group_id=defaults.apn_group_id,
        postpaid_plan_id=defaults.postpaid_plan_id,
        prepaid_plan_id=defaults.prepaid_plan_id,
    )


def defaults_to_proto(defaults: Defaults) -> pb.GetDefaultsResponse:
    """Write which defaults an account has; its endpoints' default plan is the prepaid one (model, e-30)."""
    return pb.GetDefaultsResponse(
        service_profile_id=defaults.service_profile_id,
        roaming_profile_id=defaults.roaming_profile_id,
        apn_group_id=defaults.apn_group_id,
        plan_id=defaults.prepaid_plan_id,
    )


def plan_versions_to_proto(found: PlanVersions) -> pb.BatchGetPlanVersionsResponse:
    """Write plan versions with all that they reference."""
    return pb.BatchGetPlanVersionsResponse(
        plans=map(plan_to_proto, found.plans),
        tariffs=map(tariff_to_proto, found.tariffs),
        rate_zones=map(rate_zone_to_proto, found.rate_zones),
        service_profiles=map(service_profile_to_proto, found.service_profiles),
        roaming_profiles=map(roaming_profile_to_proto, found.roaming_profiles),
    )
