"""Service scopes, service profiles, roaming profiles and APN groups."""

from collections.abc import Iterable

from meterline.catalog.v1 import profiles_pb2
from services.catalog.convert.values import access_types_from_proto, enum_from_proto, time_to_proto
from services.catalog.domain.profiles import Apn, ApnGroup, IpAllocation, RoamingProfile, ServiceProfile
from services.catalog.domain.services import Scope, Service, ServiceAccess


def scope_from_proto(services: Iterable[profiles_pb2.ServiceAccess], field: str) -> Scope:
    """Read services as the caller lists them; `field` is the list's path in the request."""
    return tuple(
        ServiceAccess(
            enum_from_proto(Service, access.service, f"{field}[{index}].service"),
            access_types_from_proto(access.access_types, f"{field}[{index}].access_types"),
        )
        for index, access in enumerate(services)
    )


def scope_to_proto(scope: Scope) -> list[profiles_pb2.ServiceAccess]:
    """Write services."""
    return [
        profiles_pb2.ServiceAccess(
            service=access.service.value,  # type: ignore[arg-type]
            access_types=[kind.value for kind in access.access_types],  # type: ignore[misc]
        )
        for access in scope
    ]


def account_scope_to_proto(account_id: str, scope: Scope) -> profiles_pb2.ServiceScope:
    """Write the scope of an account."""
    return profiles_pb2.ServiceScope(account_id=account_id, services=scope_to_proto(scope))


def service_profile_from_proto(message: profiles_pb2.ServiceProfile) -> ServiceProfile:
    """Read what a caller says of a service profile."""
    return ServiceProfile(
        name=message.name,
        description=message.description,
        services=scope_from_proto(message.services, "service_profile.services"),
    )


def service_profile_to_proto(profile: ServiceProfile) -> profiles_pb2.ServiceProfile:
    """Write a service profile."""
    return profiles_pb2.ServiceProfile(
        id=profile.id,
        account_id=profile.account_id,
        name=profile.name,
        description=profile.description,
        services=scope_to_proto(profile.services),
        system_managed=profile.system_managed,
        create_time=time_to_proto(profile.created_ms),
        update_time=time_to_proto(profile.updated_ms),
        etag=str(profile.etag),
    )


def roaming_profile_from_proto(message: profiles_pb2.RoamingProfile) -> RoamingProfile:
    """Read what a caller says of a roaming profile; a network named twice counts once."""
    return RoamingProfile(
        name=message.name, description=message.description, network_ids=tuple(sorted(set(message.network_ids)))
    )


def roaming_profile_to_proto(profile: RoamingProfile) -> profiles_pb2.RoamingProfile:
    """Write a roaming profile."""
    return profiles_pb2.RoamingProfile(
        id=profile.id,
        account_id=profile.account_id,
        name=profile.name,
        description=profile.description,
        network_ids=profile.network_ids,
        system_managed=profile.system_managed,
        create_time=time_to_proto(profile.created_ms),
        update_time=time_to_proto(profile.updated_ms),
        etag=str(profile.etag),
    )


def apn_group_from_proto(message: profiles_pb2.ApnGroup) -> ApnGroup:
    """Read what a caller says of an APN group."""
    apns = (Apn(apn.name, IpAllocation(apn.ip_allocation or IpAllocation.DYNAMIC)) for apn in message.apns)
    return ApnGroup(name=message.name, apns=tuple(apns))


def apn_group_to_proto(group: ApnGroup) -> profiles_pb2.ApnGroup:
    """Write an APN group."""
    return profiles_pb2.ApnGroup(
        id=group.id,
        account_id=group.account_id,
        name=group.name,
        apns=[
            profiles_pb2.Apn(name=apn.name, ip_allocation=apn.ip_allocation.value)  # type: ignore[arg-type]
            for apn in group.apns
        ],
        system_managed=group.system_managed,
        create_time=time_to_proto(group.created_ms),
        update_time=time_to_proto(group.updated_ms),
        etag=str(group.etag),
    )
