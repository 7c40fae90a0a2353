"""In which currencies a run's amounts are: the answer to an event does not say, the books do."""

import time
from collections import defaultdict

from google.protobuf.timestamp_pb2 import Timestamp

from cli.books import Books
from cli.charge.summary import Summary
from cli.client import Connection
from cli.output import Failure
from meterline.rating.v1.charges_pb2 import SummarizeUsageRequest, SummaryDimension
from services.common.errors import MeterlineError

WAIT_S = 30.0

Currencies = dict[tuple[str, int], str]


async def currencies_of(connection: Connection, summary: Summary) -> Currencies:
    """The currency of each step: for all endpoints (``""``) where they agree, else for each (endpoint id, step).

    Waits ``WAIT_S`` seconds at most until the books hold the run. Empty if the key may charge but not read.
    """
    if not summary.endpoints:
        return {}
    request = SummarizeUsageRequest(group_by=[SummaryDimension.SUMMARY_DIMENSION_LEVEL])
    request.start_time.CopyFrom(_timestamp(summary.first_ms))
    request.end_time.CopyFrom(_timestamp(summary.last_ms + 1))
    books = Books(connection)
    try:
        await books.wait_until_complete(time.time_ns() // 1_000_000, WAIT_S)
        found: defaultdict[int, set[str]] = defaultdict(set)
        for row in (await books.sums(request)).rows:
            found[row.step].add(row.currency)
        if all(len(names) == 1 for names in found.values()):
            return {("", step): min(names) for step, names in found.items()}
        request.group_by.append(SummaryDimension.SUMMARY_DIMENSION_ENDPOINT)
        rows = (await books.sums(request)).rows
    except (MeterlineError, Failure):
        return {}
    return {(row.endpoint_id, row.step): row.currency for row in rows}


def _timestamp(milliseconds: int) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromMilliseconds(milliseconds)
    return timestamp
