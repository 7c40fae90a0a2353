"""Who is calling: resolves the `authorization` of a call into a principal, and signs calls between services."""

import time
from collections.abc import Awaitable, Callable, Sequence

import jwt

from services.common.errors import UnauthenticatedError
from services.common.identity import AccountKind, Principal, Role

KEY_PREFIX = "mk_"
CACHE_SECONDS = 5.0
"""A revoked key works at most this long in a service that has seen it."""
CACHE_ENTRIES_MAX = 10_000
TOKEN_SECONDS = 300
_ALGORITHM = "HS256"
_AUDIENCE = "meterline"

ResolveKey = Callable[[str], Awaitable[Principal]]
"""Resolves an API key's credential, or raises UNAUTHENTICATED."""


class ServiceTokens:
    """Signs and reads the tokens by which Meterline's services know one another."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def sign(self, principal: Principal) -> str:
        """Make a token for a principal that is good for five minutes."""
        now = int(time.time())
        claims = {
            "aud": _AUDIENCE,
            "iat": now,
            "exp": now + TOKEN_SECONDS,
            "sub": principal.actor,
            "svc": principal.service,
            "acc": principal.account_id,
            "knd": int(principal.account_kind),
            "pth": list(principal.account_path),
            "rol": int(principal.role),
        }
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM)

    def read(self, token: str) -> Principal:
        """Read a token, or raise UNAUTHENTICATED."""
        try:
            claims = jwt.decode(token, self._secret, algorithms=[_ALGORITHM], audience=_AUDIENCE)
        except jwt.InvalidTokenError as error:
            raise unauthenticated() from error
        return Principal(
            actor=claims["sub"],
            account_id=claims["acc"],
            account_kind=AccountKind(claims["knd"]),
            account_path=tuple(claims["pth"]),
            role=Role(claims["rol"]),
            service=claims["svc"],
            expires_ms=claims["exp"] * 1000,
        )


def service_principal(service: str) -> Principal:
    """The principal of one of Meterline's own services."""
    return Principal(service, "", AccountKind.OPERATOR, (), Role.ADMIN, service=service)


def unauthenticated() -> UnauthenticatedError:
    """The one answer to every bad credential: it does not say what is wrong with it."""
    return UnauthenticatedError(
        "CREDENTIAL_INVALID",
        "Send an API key in `authorization: Bearer mk_...`; this call had none, or one that is unknown, "
        "expired or revoked.",
    )


class Authenticator:
    """Resolves the metadata of calls, with a cache of seconds."""

    def __init__(self, tokens: ServiceTokens, resolve_key: ResolveKey) -> None:
        self._tokens = tokens
        self._resolve_key = resolve_key
        self._cache: dict[str, tuple[float, Principal]] = {}

    async def principal(self, metadata: Sequence[tuple[str, str | bytes]]) -> Principal:
        """Return who calls, or raise UNAUTHENTICATED."""
        for key, value in metadata:
            if key == "authorization":
                header = value if isinstance(value, str) else value.decode("latin-1")
                cached = self._cache.get(header)
                if cached is not None and cached[0] > time.monotonic():
                    return cached[1]
                return await self._resolve(header)
        raise unauthenticated()

    async def _resolve(self, header: str) -> Principal:
        scheme, _, credential = header.partition(" ")
        if scheme.lower() != "bearer" or not credential:
            raise unauthenticated()
        if credential.startswith(KEY_PREFIX):
            principal = await self._resolve_key(credential)
        else:
            principal = self._tokens.read(credential)
        left = CACHE_SECONDS
        if principal.expires_ms is not None:
            left = min(left, principal.expires_ms / 1000 - time.time())
        if left <= 0:
            raise unauthenticated()
        if len(self._cache) >= CACHE_ENTRIES_MAX:
            self._cache.clear()
        self._cache[header] = (time.monotonic() + left, principal)
        return principal

    def forget(self) -> None:
        """Resolve every credential anew at its next use: a key was revoked."""
        self._cache.clear()
