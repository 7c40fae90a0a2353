"""Asks a process whether it serves: `python -m services.runtime.health TARGET`; status 0 if it does, 1 if not.

TARGET is host:port of a gRPC server, asked by grpc.health.v1, or the URL of a page that answers 200 while all is well.
It is what a container's health check runs: an image needs no further program for it.
"""

import sys
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import grpc
from grpc_health.v1 import health_pb2

TIMEOUT_S = 3.0
_CHECK = "/grpc.health.v1.Health/Check"


def wrong_with(target: str) -> str:
    """Say why a target does not serve; an empty string if it does."""
    return _wrong_over_http(target) if "://" in target else _wrong_over_grpc(target)


def _wrong_over_grpc(address: str) -> str:
    with grpc.insecure_channel(address) as channel:
        check = channel.unary_unary(
            _CHECK,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            status = check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S).status
        except grpc.RpcError as error:
            return f"{address}: {error.code().name}"
    serving = health_pb2.HealthCheckResponse.SERVING
    return "" if status == serving else f"{address}: {health_pb2.HealthCheckResponse.ServingStatus.Name(status)}"


def _wrong_over_http(url: str) -> str:
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=TIMEOUT_S):
            return ""
    except (URLError, OSError) as error:  # an answer that is not good is an error here too
        return f"{url}: {error}"


if __name__ == "__main__":
    sys.exit("which target? host:port or a URL" if len(sys.argv) != 2 else wrong_with(sys.argv[1]) or 0)
