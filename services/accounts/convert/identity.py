"""API keys and callers on the wire."""

from meterline.accounts.v1 import accounts_pb2, identity_pb2
from services.accounts.convert.values import milliseconds, timestamp
from services.accounts.domain.keys import ApiKey
from services.accounts.usecases.keys import NewKey
from services.common.identity import Principal, Role


def key_to_proto(key: ApiKey) -> identity_pb2.ApiKey:
    """Write a key, without its secret."""
    message = identity_pb2.ApiKey(
        id=key.id,
        account_id=key.account_id,
        name=key.name,
        role=identity_pb2.Role.ValueType(key.role),
        create_time=timestamp(key.created_ms),
    )
    if key.expires_ms is not None:
        message.expire_time.CopyFrom(timestamp(key.expires_ms))
    if key.revoked_ms is not None:
        message.revoke_time.CopyFrom(timestamp(key.revoked_ms))
    return message


def new_key_from_proto(message: identity_pb2.ApiKey) -> NewKey:
    """Read the key that a caller asks for."""
    expires = message.HasField("expire_time")
    return NewKey(
        account_id=message.account_id,
        name=message.name,
        role=Role(message.role),
        expires_ms=milliseconds(message.expire_time, "api_key.expire_time") if expires else None,
    )


def principal_to_proto(principal: Principal, *, whole_path: bool) -> identity_pb2.Principal:
    """Write a caller, with its path from the OPERATOR down for our own services only."""
    message = identity_pb2.Principal(
        actor=principal.actor,
        account_id=principal.account_id,
        account_kind=accounts_pb2.AccountKind.ValueType(principal.account_kind),
        account_path=principal.account_path if whole_path else principal.account_path[-1:],
        role=identity_pb2.Role.ValueType(principal.role),
        context_level=identity_pb2.ContextLevel.ValueType(principal.context_level),
    )
    if principal.expires_ms is not None:
        message.expire_time.CopyFrom(timestamp(principal.expires_ms))
    return message
