"""TariffService."""

from google.protobuf.empty_pb2 import Empty

from meterline.catalog.v1 import tariffs_pb2 as pb
from meterline.catalog.v1 import tariffs_pb2_grpc
from services.catalog.api.desk import Desk, empty
from services.catalog.convert import tariffs as convert
from services.catalog.convert.updates import merged
from services.catalog.domain.tariffs import Tariff
from services.catalog.domain.zones import RateZone
from services.catalog.usecases import rate_zones, tariffs
from services.catalog.usecases.items import get_item, list_items
from services.common.pages import page_request

# ruff: noqa: N802 - the names of methods in the contract


class TariffServicer(tariffs_pb2_grpc.TariffServiceServicer):
    """Rate zones and tariffs."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def CreateRateZone(self, request: pb.CreateRateZoneRequest, _: object) -> pb.RateZone:
        """Create a rate zone."""
        owner = await self._desk.owner(self._desk.writer(), request.rate_zone.account_id)
        draft = convert.rate_zone_from_proto(request.rate_zone)
        return await self._desk.write(
            request,
            pb.RateZone,
            lambda store, now_ms: rate_zones.create_rate_zone(store, owner, draft, now_ms),
            convert.rate_zone_to_proto,
        )

    async def GetRateZone(self, request: pb.GetRateZoneRequest, _: object) -> pb.RateZone:
        """Return a rate zone."""
        caller = self._desk.reader()
        async with self._desk.reading() as store:
            return convert.rate_zone_to_proto(await get_item(store.rate_zones, caller, request.rate_zone_id))

    async def ListRateZones(self, request: pb.ListRateZonesRequest, _: object) -> pb.ListRateZonesResponse:
        """Return a page of rate zones."""
        caller, page = self._desk.reader(), page_request(request.page_size, request.page_token)
        async with self._desk.reading() as store:
            found = await list_items(store.rate_zones, caller, request.account_id, page)
        return pb.ListRateZonesResponse(
            rate_zones=map(convert.rate_zone_to_proto, found.rows), next_page_token=found.next_page_token
        )

    async def UpdateRateZone(self, request: pb.UpdateRateZoneRequest, _: object) -> pb.RateZone:
        """Change a rate zone."""
        caller, update = self._desk.writer(), request.rate_zone

        def change(current: RateZone) -> RateZone:
            message = merged(convert.rate_zone_to_proto(current), update, request.update_mask)
            return convert.rate_zone_from_proto(message)

        return await self._desk.write(
            request,
            pb.RateZone,
            lambda store, now_ms: rate_zones.update_rate_zone(store, caller, update.id, update.etag, change, now_ms),
            convert.rate_zone_to_proto,
        )

    async def DeleteRateZone(self, request: pb.DeleteRateZoneRequest, _: object) -> Empty:
        """Delete a rate zone."""
        caller = self._desk.writer()
        return await self._desk.write(
            request, Empty, lambda store, _: rate_zones.delete_rate_zone(store, caller, request.rate_zone_id), empty
        )

    async def CreateTariff(self, request: pb.CreateTariffRequest, _: object) -> pb.Tariff:
        """Create a tariff."""
        owner = await self._desk.owner(self._desk.writer(), request.tariff.account_id)
        draft = convert.tariff_from_proto(request.tariff)
        return await self._desk.write(
            request,
            pb.Tariff,
            lambda store, now_ms: tariffs.create_tariff(store, owner, draft, now_ms),
            convert.tariff_to_proto,
        )

    async def GetTariff(self, request: pb.GetTariffRequest, _: object) -> pb.Tariff:
        """Return a version of a tariff."""
        caller = self._desk.reader()
        async with self._desk.reading() as store:
            found = await tariffs.get_tariff(store, caller, request.tariff_id, request.version)
        return convert.tariff_to_proto(found)

    async def ListTariffs(self, request: pb.ListTariffsRequest, _: object) -> pb.ListTariffsResponse:
        """Return a page of tariffs."""
        caller, page = self._desk.reader(), page_request(request.page_size, request.page_token)
        async with self._desk.reading() as store:
            found = await list_items(store.tariffs, caller, request.account_id, page)
        return pb.ListTariffsResponse(
            tariffs=map(convert.tariff_to_proto, found.rows), next_page_token=found.next_page_token
        )

    async def UpdateTariff(self, request: pb.UpdateTariffRequest, _: object) -> pb.Tariff:
        """Change the draft of a tariff."""
        caller, update = self._desk.writer(), request.tariff

        def change(current: Tariff) -> Tariff:
            return convert.tariff_from_proto(merged(convert.tariff_to_proto(current), update, request.update_mask))

        return await self._desk.write(
            request,
            pb.Tariff,
            lambda store, now_ms: tariffs.update_tariff(store, caller, update.id, update.etag, change, now_ms),
            convert.tariff_to_proto,
        )

    async def PublishTariff(self, request: pb.PublishTariffRequest, _: object) -> pb.Tariff:
        """Freeze the draft of a tariff."""
        caller = self._desk.writer()
        effective_ms = request.effective_time.ToMilliseconds() if request.HasField("effective_time") else None
        return await self._desk.write(
            request,
            pb.Tariff,
            lambda store, now_ms: tariffs.publish_tariff(store, caller, request.tariff_id, effective_ms, now_ms),
            convert.tariff_to_proto,
        )

    async def DeleteTariff(self, request: pb.DeleteTariffRequest, _: object) -> Empty:
        """Delete a tariff that was never published."""
        caller = self._desk.writer()
        return await self._desk.write(
            request, Empty, lambda store, _: tariffs.delete_tariff(store, caller, request.tariff_id), empty
        )
