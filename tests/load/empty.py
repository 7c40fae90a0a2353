"""An empty handler on the server stack of rating: the yardstick of `make bench`. Arguments: host:port, secret."""

import asyncio
import sys
from typing import Any, cast

from meterline.rating.v1 import charging_pb2, charging_pb2_grpc
from services.runtime.identity import Authenticator, ServiceTokens, unauthenticated
from services.runtime.server import Door, Server, run


class Empty(charging_pb2_grpc.ChargingServiceServicer):
    """Answers at once."""

    async def ChargeEvent(self, _request: charging_pb2.ChargeEventRequest, _: Any) -> charging_pb2.ChargeResult:  # noqa: N802
        """Do nothing."""
        return charging_pb2.ChargeResult(outcome=charging_pb2.OUTCOME_CHARGED)


async def _no_keys(_: str) -> Any:
    raise unauthenticated()


async def main(stop: asyncio.Event) -> None:
    """Serve until told to stop."""
    listen, secret = sys.argv[1:]
    door = Door("rating", Authenticator(ServiceTokens(secret), _no_keys), ("ChargeEvent",))
    servicers = ((cast("Any", Empty)(), charging_pb2_grpc.add_ChargingServiceServicer_to_server),)
    async with Server(listen, door, servicers, ["meterline.rating.v1.ChargingService"]):
        await stop.wait()


if __name__ == "__main__":
    run(main)
