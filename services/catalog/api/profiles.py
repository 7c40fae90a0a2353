"""ProfileService."""

from google.protobuf.empty_pb2 import Empty

from meterline.catalog.v1 import profiles_pb2 as pb
from meterline.catalog.v1 import profiles_pb2_grpc
from services.catalog.api.desk import Desk, empty
from services.catalog.convert import profiles as convert
from services.catalog.convert.updates import merged
from services.catalog.domain.profiles import ApnGroup, RoamingProfile, ServiceProfile
from services.catalog.usecases import apn_groups, roaming_profiles, scopes, service_profiles
from services.catalog.usecases.items import get_item, list_items
from services.common.pages import page_request

# ruff: noqa: N802 - the names of methods in the contract


class ProfileServicer(profiles_pb2_grpc.ProfileServiceServicer):
    """Service scopes, service profiles, roaming profiles, APN groups."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def SetServiceScope(self, request: pb.SetServiceScopeRequest, _: object) -> pb.ServiceScope:
        """Set what an account may use."""
        caller = self._desk.writer()
        account = await self._desk.account(caller, request.account_id)
        services = convert.scope_from_proto(request.services, "services")
        return await self._desk.write(
            request,
            pb.ServiceScope,
            lambda store, _: scopes.set_scope(store, caller, account, services),
            lambda scope: convert.account_scope_to_proto(account.id, scope),
        )

    async def GetServiceScope(self, request: pb.GetServiceScopeRequest, _: object) -> pb.ServiceScope:
        """Return what an account may use."""
        account = await self._desk.account(self._desk.reader(), request.account_id)
        async with self._desk.reading() as store:
            return convert.account_scope_to_proto(account.id, await scopes.get_scope(store, account))

    async def CreateServiceProfile(self, request: pb.CreateServiceProfileRequest, _: object) -> pb.ServiceProfile:
        """Create a service profile."""
        owner = await self._desk.owner(self._desk.writer(), request.service_profile.account_id)
        draft = convert.service_profile_from_proto(request.service_profile)
        return await self._desk.write(
            request,
            pb.ServiceProfile,
            lambda store, now_ms: service_profiles.create_service_profile(store, owner, draft, now_ms),
            convert.service_profile_to_proto,
        )

    async def GetServiceProfile(self, request: pb.GetServiceProfileRequest, _: object) -> pb.ServiceProfile:
        """Return a service profile."""
        caller = self._desk.reader()
        async with self._desk.reading() as store:
            found = await get_item(store.service_profiles, caller, request.service_profile_id)
        return convert.service_profile_to_proto(found)

    async def ListServiceProfiles(
        self, request: pb.ListServiceProfilesRequest, _: object
    ) -> pb.ListServiceProfilesResponse:
        """Return a page of service profiles."""
        caller, page = self._desk.reader(), page_request(request.page_size, request.page_token)
        async with self._desk.reading() as store:
            found = await list_items(store.service_profiles, caller, request.account_id, page)
        return pb.ListServiceProfilesResponse(
            service_profiles=map(convert.service_profile_to_proto, found.rows), next_page_token=found.next_page_token
        )

    async def UpdateServiceProfile(self, request: pb.UpdateServiceProfileRequest, _: object) -> pb.ServiceProfile:
        """Change a service profile."""
        caller, update = self._desk.writer(), request.service_profile

        def change(current: ServiceProfile) -> ServiceProfile:
            message = merged(convert.service_profile_to_proto(current), update, request.update_mask)
            return convert.service_profile_from_proto(message)

        return await self._desk.write(
            request,
            pb.ServiceProfile,
            lambda store, now_ms: service_profiles.update_service_profile(
                store, caller, update.id, update.etag, change, now_ms
            ),
            convert.service_profile_to_proto,
        )

    async def DeleteServiceProfile(self, request: pb.DeleteServiceProfileRequest, _: object) -> Empty:
        """Delete a service profile."""
        caller = self._desk.writer()
        return await self._desk.write(
            request,
            Empty,
            lambda store, _: service_profiles.delete_service_profile(store, caller, request.service_profile_id),
            empty,
        )

    async def CloneServiceProfile(self, request: pb.CloneServiceProfileRequest, _: object) -> pb.ServiceProfile:
        """Copy a service profile."""
        caller = self._desk.writer()
        return await self._desk.write(
            request,
            pb.ServiceProfile,
            lambda store, now_ms: service_profiles.clone_service_profile(
                store, caller, request.service_profile_id, request.name, now_ms
            ),
            convert.service_profile_to_proto,
        )

    async def CreateRoamingProfile(self, request: pb.CreateRoamingProfileRequest, _: object) -> pb.RoamingProfile:
        """Create a roaming profile."""
        owner = await self._desk.owner(self._desk.writer(), request.roaming_profile.account_id)
        draft = convert.roaming_profile_from_proto(request.roaming_profile)
        return await self._desk.write(
            request,
            pb.RoamingProfile,
            lambda store, now_ms: roaming_profiles.create_roaming_profile(store, owner, draft, now_ms),
            convert.roaming_profile_to_proto,
        )

    async def GetRoamingProfile(self, request: pb.GetRoamingProfileRequest, _: object) -> pb.RoamingProfile:
        """Return a roaming profile."""
        caller = self._desk.reader()
        async with self._desk.reading() as store:
            found = await get_item(store.roaming_profiles, caller, request.roaming_profile_id)
        return convert.roaming_profile_to_proto(found)

    async def ListRoamingProfiles(
        self, request: pb.ListRoamingProfilesRequest, _: object
    ) -> pb.ListRoamingProfilesResponse:
        """Return a page of roaming profiles."""
        caller, page = self._desk.reader(), page_request(request.page_size, request.page_token)
        async with self._desk.reading() as store:
            found = await list_items(store.roaming_profiles, caller, request.account_id, page)
        return pb.ListRoamingProfilesResponse(
            roaming_profiles=map(convert.roaming_profile_to_proto, found.rows), next_page_token=found.next_page_token
        )

    async def UpdateRoamingProfile(self, request: pb.UpdateRoamingProfileRequest, _: object) -> pb.RoamingProfile:
        """Change a roaming profile."""
        caller, update = self._desk.writer(), request.roaming_profile

        def change(current: RoamingProfile) -> RoamingProfile:
            message = merged(convert.roaming_profile_to_proto(current), update, request.update_mask)
            return convert.roaming_profile_from_proto(message)

        return await self._desk.write(
            request,
            pb.RoamingProfile,
            lambda store, now_ms: roaming_profiles.update_roaming_profile(
                store, caller, update.id, update.etag, change, now_ms
            ),
            convert.roaming_profile_to_proto,
        )

    async def DeleteRoamingProfile(self, request: pb.DeleteRoamingProfileRequest, _: object) -> Empty:
        """Delete a roaming profile."""
        caller = self._desk.writer()
        return await self._desk.write(
            request,
            Empty,
            lambda store, _: roaming_profiles.delete_roaming_profile(store, caller, request.roaming_profile_id),
            empty,
        )

    async def CloneRoamingProfile(self, request: pb.CloneRoamingProfileRequest, _: object) -> pb.RoamingProfile:
        """Copy a roaming profile."""
        caller = self._desk.writer()
        return await self._desk.write(
            request,
            pb.RoamingProfile,
            lambda store, now_ms: roaming_profiles.clone_roaming_profile(
                store, caller, request.roaming_profile_id, request.name, now_ms
            ),
            convert.roaming_profile_to_proto,
        )

    async def CreateApnGroup(self, request: pb.CreateApnGroupRequest, _: object) -> pb.ApnGroup:
        """Create an APN group."""
        owner = await self._desk.owner(self._desk.writer(), request.apn_group.account_id)
        draft = convert.apn_group_from_proto(request.apn_group)
        return await self._desk.write(
            request,
            pb.ApnGroup,
            lambda store, now_ms: apn_groups.create_apn_group(store, owner, draft, now_ms),
            convert.apn_group_to_proto,
        )

    async def GetApnGroup(self, request: pb.GetApnGroupRequest, _: object) -> pb.ApnGroup:
        """Return an APN group."""
        caller = self._desk.reader()
        async with self._desk.reading() as store:
            return convert.apn_group_to_proto(await get_item(store.apn_groups, caller, request.apn_group_id))

    async def ListApnGroups(self, request: pb.ListApnGroupsRequest, _: object) -> pb.ListApnGroupsResponse:
        """Return a page of APN groups."""
        caller, page = self._desk.reader(), page_request(request.page_size, request.page_token)
        async with self._desk.reading() as store:
            found = await list_items(store.apn_groups, caller, request.account_id, page)
        return pb.ListApnGroupsResponse(
            apn_groups=map(convert.apn_group_to_proto, found.rows), next_page_token=found.next_page_token
        )

    async def UpdateApnGroup(self, request: pb.UpdateApnGroupRequest, _: object) -> pb.ApnGroup:
        """Change an APN group."""
        caller, update = self._desk.writer(), request.apn_group

        def change(current: ApnGroup) -> ApnGroup:
            message = merged(convert.apn_group_to_proto(current), update, request.update_mask)
            return convert.apn_group_from_proto(message)

        return await self._desk.write(
            request,
            pb.ApnGroup,
            lambda store, now_ms: apn_groups.update_apn_group(store, caller, update.id, update.etag, change, now_ms),
            convert.apn_group_to_proto,
        )

    async def DeleteApnGroup(self, request: pb.DeleteApnGroupRequest, _: object) -> Empty:
        """Delete an APN group."""
        caller = self._desk.writer()
        return await self._desk.write(
            request, Empty, lambda store, _: apn_groups.delete_apn_group(store, caller, request.apn_group_id), empty
        )
