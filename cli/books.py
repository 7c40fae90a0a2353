"""Reads the books: sums of usage and charges, complete up to a moment."""

import asyncio
import time
from dataclasses import dataclass

from cli.client import Connection
from cli.output import Failure
from meterline.rating.v1.charges_pb2 import (
    Charge,
    ListChargesRequest,
    RefusalCount,
    SummarizeUsageRequest,
    SummaryDimension,
    UsageSummary,
)
from meterline.rating.v1.charges_pb2_grpc import UsageServiceStub

PAGE_SIZE = 1000
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Sums:
    """The answer to a question about sums, all pages of it."""

    rows: list[UsageSummary]
    refusals: list[RefusalCount]


class Books:
    """Questions to the usage service."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = UsageServiceStub(connection.channel)

    async def wait_until_complete(self, until_ms: int, timeout_s: float) -> None:
        """Wait until everything that was acknowledged before ``until_ms`` (milliseconds since 1970) is in the books.

        Raises:
            Failure: it is not after ``timeout_s`` seconds.
        """
        request = SummarizeUsageRequest(group_by=[SummaryDimension.SUMMARY_DIMENSION_LEVEL], page_size=1)
        give_up = time.monotonic() + timeout_s
        while True:
            response = await self._connection.call(self._stub.SummarizeUsage, request)
            if response.complete_until.ToMilliseconds() >= until_ms:
                return
            if time.monotonic() > give_up:
                raise Failure(
                    f"the books are complete only until {response.complete_until.ToJsonString()} after"
                    f" {timeout_s:.0f} s. Does the fold run? Look at its log."
                )
            await asyncio.sleep(POLL_S)

    async def sums(self, request: SummarizeUsageRequest) -> Sums:
        """Every page of the sums asked for."""
        sums = Sums([], [])
        page = SummarizeUsageRequest()
        page.CopyFrom(request)
        page.page_size = PAGE_SIZE
        while True:
            response = await self._connection.call(self._stub.SummarizeUsage, page)
            sums.rows.extend(response.summaries)
            sums.refusals.extend(response.refusals)
            page.page_token = response.next_page_token
            if not page.page_token:
                return sums

    async def charges(self, request: ListChargesRequest) -> list[Charge]:
        """Every page of the charges asked for."""
        charges: list[Charge] = []
        page = ListChargesRequest()
        page.CopyFrom(request)
        page.page_size = PAGE_SIZE
        while True:
            response = await self._connection.call(self._stub.ListCharges, page)
            charges.extend(response.charges)
            page.page_token = response.next_page_token
            if not page.page_token:
                return charges
