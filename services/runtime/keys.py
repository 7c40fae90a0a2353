"""API keys as other services than accounts see them: asked of accounts, kept for seconds by the Authenticator."""

from meterline.accounts.v1 import identity_pb2, identity_pb2_grpc
from services.common.identity import AccountKind, Principal, Role
from services.runtime.channels import Channel
from services.runtime.identity import ResolveKey


def remote_key_resolver(accounts: Channel) -> ResolveKey:
    """Return a resolver that asks accounts who the holder of a credential is."""
    stub = identity_pb2_grpc.IdentityServiceStub(accounts.grpc)

    async def resolve(credential: str) -> Principal:
        found = await accounts.call(stub.Authenticate, identity_pb2.AuthenticateRequest(credential=credential))
        return Principal(
            actor=found.actor,
            account_id=found.account_id,
            account_kind=AccountKind(found.account_kind),
            account_path=tuple(found.account_path),
            role=Role(found.role),
            expires_ms=found.expire_time.ToMilliseconds() if found.HasField("expire_time") else None,
        )

    return resolve
