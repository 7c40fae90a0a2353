"""A load that goes on whatever happens to the system, and the audit of what it left in the books."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
from google.protobuf import json_format

from meterline.rating.v1 import charging_pb2
from tests.system.market import GB, MB, Market, addon, default_of, usage, zone
from tests.system.stranger import Json, Stranger
from tests.system.test_worked_example import complete

BATCH = 20
PAUSE_S = 0.1
RETRY_S = 0.1
RETRYABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)
LATER = {429, 503, 504}
CALL_S = 10
RUN_S = 100
FEW = 300
"""Megabytes that an endpoint with a small add-on may use: less than it asks for."""


@dataclass
class Load:
    """Charges endpoints of a market, a megabyte an event, until told to stop; repeats what was not answered.

    Attributes:
        rich: endpoints whose add-ons never end.
        poor: endpoints whose add-ons end in the middle.
        answers: what was acknowledged, by event id.
    """

    market: Market
    rich: Sequence[str]
    poor: Sequence[str]
    answers: dict[str, charging_pb2.ChargeResult] = field(default_factory=dict)
    sent: dict[str, charging_pb2.UsageEvent] = field(default_factory=dict)
    repeats: int = 0
    _stop: bool = False

    @classmethod
    async def on(cls, market: Market) -> "Load":
        """Make endpoints for it."""
        enterprise = market.enterprise
        profile = (await default_of(enterprise, "service-profiles", "DEFAULT"))["id"]
        eu = await zone(enterprise, ["BE"])
        much, little = [await addon(enterprise, profile, eu, volume) for volume in (10**6 * GB, FEW * MB)]
        return cls(market, await market.endpoints(4, addons=[much]), await market.endpoints(2, addons=[little]))

    def batch(self) -> list[charging_pb2.UsageEvent]:
        """The next events: half of them to the endpoints whose add-ons end."""
        endpoints = [*self.rich, *self.poor, *self.poor]
        events = [usage(endpoints[number % len(endpoints)], MB) for number in range(BATCH)]
        self.sent.update((event.event_id, event) for event in events)
        return events

    async def run(self) -> None:
        """Charge through all doors at once until `stop`, and until everything sent is answered."""
        async with asyncio.timeout(RUN_S), asyncio.TaskGroup() as doors:
            for door in (self._batches, self._unaries, self._over_http):
                doors.create_task(door())

    def stop(self) -> None:
        """Send nothing new."""
        self._stop = True

    async def more(self, count: int) -> None:
        """Wait until so many more are acknowledged."""
        wanted = len(self.answers) + count
        while len(self.answers) < wanted:
            await asyncio.sleep(0.05)

    async def _batches(self) -> None:
        while not self._stop:
            await self.charge(self.batch())
            await asyncio.sleep(PAUSE_S)

    async def charge(self, events: Sequence[charging_pb2.UsageEvent]) -> list[charging_pb2.ChargeResult]:
        """Charge a batch over gRPC, as often as it takes."""
        call = self.market.operator.charging.ChargeUsage
        request = charging_pb2.ChargeUsageRequest(events=events)
        while True:
            try:
                answer = await call(request, metadata=self.market.operator.metadata, timeout=CALL_S)
            except grpc.aio.AioRpcError as error:
                await self._again(error, permitted=error.code() in RETRYABLE)
            else:
                self.answers.update(zip((event.event_id for event in events), answer.results, strict=True))
                return list(answer.results)

    async def _unaries(self) -> None:
        call, metadata = self.market.enterprise.charging.ChargeEvent, self.market.enterprise.metadata

        async def one(event: charging_pb2.UsageEvent) -> None:
            while event.event_id not in self.answers:
                try:
                    request = charging_pb2.ChargeEventRequest(event=event)
                    self.answers[event.event_id] = await call(request, metadata=metadata, timeout=CALL_S)
                except grpc.aio.AioRpcError as error:
                    await self._again(error, permitted=error.code() in RETRYABLE)

        while not self._stop:
            await asyncio.gather(*map(one, self.batch()))
            await asyncio.sleep(PAUSE_S)

    async def _over_http(self) -> None:
        while not self._stop:
            events = self.batch()
            body = {"events": [json_format.MessageToDict(event, preserving_proto_field_name=True) for event in events]}
            while (results := await self._posted(body)) is None:
                pass
            for event, result in zip(events, results, strict=True):
                self.answers[event.event_id] = json_format.ParseDict(result, charging_pb2.ChargeResult())
            await asyncio.sleep(PAUSE_S)

    async def _posted(self, body: Json) -> list[Json] | None:
        try:
            answer = await self.market.reseller.ask("POST", "/v1/usage:charge", body, timeout=CALL_S)
        except httpx.TransportError as error:
            await self._again(error, permitted=True)
            return None
        if answer.status_code != httpx.codes.OK:
            await self._again(AssertionError(answer.text), permitted=answer.status_code in LATER)
            return None
        results: list[Json] = answer.json()["results"]
        return results

    async def _again(self, error: Exception, *, permitted: bool) -> None:
        if not permitted:
            raise error
        self.repeats += 1
        await asyncio.sleep(RETRY_S)

    async def audit(self) -> None:
        """Hold the books against what was acknowledged."""
        charged = await self._every_event_is_in_the_books_once()
        await self._a_repeat_changes_nothing()
        for endpoint_id in (*self.rich, *self.poor):
            await self._balance_is_the_sum_of_its_entries(endpoint_id, charged[endpoint_id])
        for endpoint_id in self.poor:
            asked = sum(event.endpoint_id == endpoint_id for event in self.sent.values())
            assert charged[endpoint_id] == min(asked, FEW), "to the last unit and not one more"
        await self._levels_agree(sum(charged.values()))

    async def _every_event_is_in_the_books_once(self) -> dict[str, int]:
        assert self.answers.keys() == self.sent.keys()
        charged: dict[str, int] = {}
        for endpoint_id in (*self.rich, *self.poor):
            records = await everything(self.market.operator, "usage-records", endpoint_id=endpoint_id)
            books = {record["event"]["event_id"]: (record["outcome"], record["id"]) for record in records}
            acknowledged = {
                name: (charging_pb2.Outcome.Name(answer.outcome), answer.usage_record_id)
                for name, answer in self.answers.items()
                if self.sent[name].endpoint_id == endpoint_id
            }
            assert len(records) == len(books), "an event stands in the books twice"
            assert books == acknowledged
            charged[endpoint_id] = sum(outcome == "OUTCOME_CHARGED" for outcome, _ in books.values())
        assert all(charged[endpoint_id] == self._asked(endpoint_id) for endpoint_id in self.rich)
        return charged

    def _asked(self, endpoint_id: str) -> int:
        return sum(event.endpoint_id == endpoint_id for event in self.sent.values())

    async def _a_repeat_changes_nothing(self) -> None:
        before = dict(self.answers)
        events = list(self.sent.values())
        for start in range(0, len(events), 1000):
            chunk = events[start : start + 1000]
            for event, result in zip(chunk, await self.charge(chunk), strict=True):
                first = before[event.event_id]
                assert result.replayed
                assert (result.outcome, result.reason) == (first.outcome, first.reason)
                assert result.usage_record_id == first.usage_record_id

    async def _balance_is_the_sum_of_its_entries(self, endpoint_id: str, charged: int) -> None:
        listed = (await self.market.enterprise.get("/v1/balances", endpoint_id=endpoint_id))["balances"]
        assert all(int(one["remaining"]) >= int(one["reserved"]) >= 0 for one in listed)
        bucket = listed[0]
        path = f"balances/{bucket['id']}/ledger-entries"
        entries = await everything(self.market.enterprise, path, "ledger_entries")
        assert sum(int(entry["change"]) for entry in entries) == int(bucket["remaining"])
        assert int(bucket["granted"]) - int(bucket["remaining"]) == charged * MB

    async def _levels_agree(self, charged: int) -> None:
        query = {"group_by": "SUMMARY_DIMENSION_LEVEL", "account_id": self.market.reseller.account_id}
        rows = (await complete(self.market.operator, "/v1/usage-summaries", **query))["summaries"]
        assert {row["step"]: (row["record_count"], row["data_bytes"]) for row in rows} == dict.fromkeys(
            range(3), (str(charged), str(charged * MB))
        )
        top = next(int(row["amount_micros"]) for row in rows if row["step"] == 2)
        account_id = self.market.reseller.account_id
        credit = (await self.market.operator.get("/v1/balances", account_id=account_id))["balances"][-1]
        assert int(credit["credit_used"]) == top == charged * 1000  # a megabyte at 1 EUR for a gigabyte


async def everything(caller: Stranger, path: str, name: str = "", **query: Any) -> list[Json]:
    """All pages of a list that is complete up to now."""
    name = name or path.replace("-", "_")
    first = "complete_until" in await caller.get(f"/v1/{path}", page_size=1, **query)
    if first:
        await complete(caller, f"/v1/{path}", page_size=1, **query)
    found: list[Json] = []
    token = ""
    while True:
        page = await caller.get(f"/v1/{path}", page_size=1000, page_token=token, **query)
        found += page[name]
        token = page["next_page_token"]
        if not token:
            return found


async def until(condition: Any, seconds: float) -> float:
    """Wait for something; returns how many seconds it took."""
    started = time.monotonic()
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)
    return time.monotonic() - started
