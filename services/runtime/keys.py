"""API keys as other services than accounts see them: asked of accounts, kept for seconds by the Authenticator."""

from meterline.accounts.v1 import identity_pb2, identity_pb2_grpc
from services.common.errors import DeadlineExceededError, InvalidArgumentError, UnavailableError
from services.common.identity import AccountKind, Principal, Role
from services.runtime.channels import Channel
from services.runtime.identity import ResolveKey, unauthenticated

DEADLINE_SECONDS = 5.0


def remote_key_resolver(accounts: Channel) -> ResolveKey:
    """Return a resolver that asks accounts who the holder of a credential is.

    It raises UNAUTHENTICATED for a bad credential, and UNAVAILABLE while accounts does not answer.
    """
    stub = identity_pb2_grpc.IdentityServiceStub(accounts.grpc)

    async def resolve(credential: str) -> Principal:
        request = identity_pb2.AuthenticateRequest(credential=credential)
        try:
            found = await accounts.call(stub.Authenticate, request, timeout=DEADLINE_SECONDS)
        except InvalidArgumentError as error:  # longer than any credential
            raise unauthenticated() from error
        except (DeadlineExceededError, UnavailableError) as error:
            raise UnavailableError(
                "IDENTITY_UNAVAILABLE",
                "Credentials cannot be checked at the moment, so nothing was done; try again.",
                retry_after_ms=1000,
            ) from error
        return Principal(
            actor=found.actor,
            account_id=found.account_id,
            account_kind=AccountKind(found.account_kind),
            account_path=tuple(found.account_path),
            role=Role(found.role),
            expires_ms=found.expire_time.ToMilliseconds() if found.HasField("expire_time") else None,
        )

    return resolve
