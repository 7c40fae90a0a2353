"""The caller's credential: it must be there and be fit to travel; the services decide what it is worth."""

import re

from starlette.datastructures import Headers

from gateway.problems import unauthenticated

HEADER_LENGTH_MAX = 4096
_BEARER = re.compile(r"(?i:bearer) +[A-Za-z0-9._~+/=-]+")
"""RFC 6750, 2.1; what else a header may hold cannot be gRPC metadata."""


def authorization(headers: Headers) -> str:
    """Return the `Authorization` header, to be passed on unchanged.

    Raises:
        Problem: 401; there is none, or it is no bearer credential.
    """
    value = headers.get("authorization", "")
    if len(value) <= HEADER_LENGTH_MAX and _BEARER.fullmatch(value):
        return value
    raise unauthenticated("Send an API key as `Authorization: Bearer mk_...`.")
