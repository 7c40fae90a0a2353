# ruff: noqa: N802, ARG002 - methods are named and called as gRPC wants them
"""A rating service in small: it answers by the contract, forgets nothing, and breaks when told to."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status

from meterline.rating.v1 import balances_pb2, balances_pb2_grpc, charges_pb2, charges_pb2_grpc
from meterline.rating.v1.charging_pb2 import ChargeResult, ChargeUsageResponse, Outcome, Reason, UsageEvent
from meterline.rating.v1.charging_pb2_grpc import ChargingServiceServicer, add_ChargingServiceServicer_to_server
from meterline.type.v1.service_pb2 import Unit
from services.common.clock import SystemClock
from services.common.errors import MeterlineError, NotFoundError, PermissionDeniedError
from services.runtime.statuses import to_status

KEY = "mk_test"


@dataclass
class FakeRating(
    ChargingServiceServicer, charges_pb2_grpc.UsageServiceServicer, balances_pb2_grpc.BalanceServiceServicer
):
    """Charges each event 1000 micros at step 0 and 400 at step 1; refuses and rejects by the event id's first letter.

    Attributes:
        breaks: for each coming stream, after how many answers it breaks, and how; then it works.
        answered: what it said to each (endpoint, event) the first time.
        batches: the number and size of each batch that came.
        pauses: how long it keeps silent before the coming answers, in seconds.
    """

    breaks: list[tuple[int, MeterlineError | None]] = field(default_factory=list)
    answered: dict[tuple[str, str], ChargeResult] = field(default_factory=dict)
    batches: list[tuple[int, int]] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    currencies: tuple[str, ...] = ("EUR", "USD")
    reads_are_forbidden: bool = False
    address: str = ""

    def StreamUsage(self, request_iterator, context):
        self._require_key(context)
        answers_left, error = self.breaks.pop(0) if self.breaks else (None, None)
        for request in request_iterator:
            self.batches.append((request.batch_id, len(request.events)))
            results = [self._charge(event) for event in request.events]
            if answers_left == 0:
                if error is None:
                    return  # ends well, though an answer is missing
                context.abort_with_status(rpc_status.to_status(to_status(error)))
            if self.pauses:
                time.sleep(self.pauses.pop())
            yield ChargeUsageResponse(batch_id=request.batch_id, results=results)
            answers_left = None if answers_left is None else answers_left - 1

    def _charge(self, event: UsageEvent) -> ChargeResult:
        key = (event.endpoint_id, event.event_id)
        if key in self.answered:
            again = ChargeResult()
            again.CopyFrom(self.answered[key])
            again.replayed = True
            return again
        if event.event_id.startswith("bad"):
            return ChargeResult(outcome=Outcome.OUTCOME_INVALID, reason=Reason.REASON_NETWORK_NOT_FOUND)
        if event.event_id.startswith("no"):
            result = ChargeResult(outcome=Outcome.OUTCOME_REFUSED, reason=Reason.REASON_CREDIT_LIMIT, refused_step=1)
        else:
            result = ChargeResult(outcome=Outcome.OUTCOME_CHARGED, amounts_micros=[1000, 400])
            result.uncovered_quantity = 7 if event.event_id.startswith("free") else 0
        self.answered[key] = result
        return result

    def SummarizeUsage(self, request, context):
        self._require_key(context)
        if self.reads_are_forbidden:
            error = PermissionDeniedError("ROLE_NOT_PERMITTED", "This call needs the role VIEWER.")
            context.abort_with_status(rpc_status.to_status(to_status(error)))
        response = charges_pb2.SummarizeUsageResponse()
        response.complete_until.FromMilliseconds(SystemClock().now_ms())
        for step, currency in enumerate(self.currencies):
            response.summaries.add(step=step, currency=currency)
        return response

    def ExplainCharge(self, request, context):
        charge = charges_pb2.Charge(id=request.charge_id, quantity=10, rated_quantity=10, amount_micros=1_500_000)
        charge.currency = "EUR"
        return charges_pb2.ChargeExplanation(
            charge=charge, plan_id="pln_x", plan_version=2, sentences=["Because [so]."]
        )

    def ListBalances(self, request, context):
        if request.endpoint_id == "ep_unknown":
            error = NotFoundError("ENDPOINT_NOT_FOUND", "There is no such endpoint. Check the id.")
            context.abort_with_status(rpc_status.to_status(to_status(error)))
        money = balances_pb2.Balance(id="bal_1", unit=Unit.UNIT_MONEY, currency="EUR", remaining=2_500_000)
        return balances_pb2.ListBalancesResponse(balances=[money])

    def _require_key(self, context):
        if ("authorization", f"Bearer {KEY}") not in [tuple(pair) for pair in context.invocation_metadata()]:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "Send an API key.")


@pytest.fixture
def rating() -> Iterator[FakeRating]:
    server = grpc.server(ThreadPoolExecutor(4))
    fake = FakeRating()  # type: ignore[abstract]  # what no command calls is not answered
    adders: tuple[Any, ...] = (
        add_ChargingServiceServicer_to_server,
        charges_pb2_grpc.add_UsageServiceServicer_to_server,
        balances_pb2_grpc.add_BalanceServiceServicer_to_server,
    )
    for add in adders:
        add(fake, server)
    fake.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield fake
    server.stop(0).wait()


@pytest.fixture
def options(rating: FakeRating) -> list[str]:
    """How a command finds the fake."""
    return ["--address", rating.address, "--key", KEY]
