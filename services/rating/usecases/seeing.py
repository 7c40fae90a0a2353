"""Whose usage a caller sees: a sub-account that of its own endpoints only."""

from services.common.errors import MeterlineError, invalid, not_found
from services.common.identity import AccountKind, Principal
from services.rating.ports import KnownEndpoint, Terms


def sees_endpoint(caller: Principal, known: KnownEndpoint) -> bool:
    """Whether an endpoint is below the caller's account, or of it."""
    return caller.sees(known.chain.path) or caller.account_id == known.terms.account_id


async def require_endpoint(
    terms: Terms, caller: Principal, endpoint_id: str, hidden: MeterlineError | None = None
) -> KnownEndpoint:
    """Return an endpoint that the caller sees, or raise ENDPOINT_NOT_FOUND, or what is `hidden` with it."""
    await terms.load([endpoint_id])
    known = terms.known.get(endpoint_id)
    if known is None or not sees_endpoint(caller, known):
        raise hidden or not_found("endpoint", endpoint_id)
    return known


async def owns(terms: Terms, caller: Principal, endpoint_id: str) -> bool:
    """Whether an endpoint is of the caller's account itself."""
    await terms.load([endpoint_id])
    known = terms.known.get(endpoint_id)
    return known is not None and known.terms.account_id == caller.account_id


async def sees_usage(terms: Terms, caller: Principal, endpoint_id: str) -> bool:
    """Whether a caller that was found to see an enterprise's usage sees that of one of its endpoints."""
    return not _sees_own_only(caller) or await owns(terms, caller, endpoint_id)


async def require_own_endpoint(terms: Terms, caller: Principal, endpoint_id: str) -> None:
    """Refuse a list that holds more than the caller sees: a sub-account asks for its endpoints one at a time.

    Raises:
        InvalidArgumentError: FIELD_REQUIRED, a sub-account names no endpoint.
        NotFoundError: ENDPOINT_NOT_FOUND, it is not its own.
    """
    if _sees_own_only(caller) and not endpoint_id:
        raise invalid("endpoint_id", "is required in the context of a sub-account", "FIELD_REQUIRED")
    if not await sees_usage(terms, caller, endpoint_id):
        raise not_found("endpoint", endpoint_id)


def _sees_own_only(caller: Principal) -> bool:
    return caller.account_kind is AccountKind.SUB_ACCOUNT and not caller.service
