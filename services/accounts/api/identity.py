"""IdentityService."""
# ruff: noqa: N802 - methods are named as in the contract

from meterline.accounts.v1 import identity_pb2
from services.accounts.api.desk import Desk
from services.accounts.convert.identity import key_to_proto, new_key_from_proto, principal_to_proto
from services.accounts.domain.keys import ApiKey, Credential
from services.accounts.usecases import keys
from services.common.identity import Principal
from services.common.pages import page_request
from services.runtime.identity import ResolveKey
from services.runtime.server import current_call


class IdentityServicer:
    """Keeps API keys and says who a caller is."""

    def __init__(self, desk: Desk, resolve_key: ResolveKey) -> None:
        self._desk = desk
        self._resolve_key = resolve_key

    async def CreateApiKey(
        self, request: identity_pb2.CreateApiKeyRequest, _: object
    ) -> identity_pb2.CreateApiKeyResponse:
        """Create an API key; its secret is in this answer only."""
        wanted = new_key_from_proto(request.api_key)
        return await self._desk.write(
            request,
            identity_pb2.CreateApiKeyResponse,
            lambda store, caller, now_ms: keys.create_key(store, caller, wanted, now_ms),
            _created,
            _without_credential,
        )

    async def GetApiKey(self, request: identity_pb2.GetApiKeyRequest, _: object) -> identity_pb2.ApiKey:
        """Return an API key."""
        return key_to_proto(
            await self._desk.read(lambda store, caller: keys.get_key(store, caller, request.api_key_id))
        )

    async def ListApiKeys(
        self, request: identity_pb2.ListApiKeysRequest, _: object
    ) -> identity_pb2.ListApiKeysResponse:
        """Return a page of API keys."""
        page = page_request(request.page_size, request.page_token)
        found = await self._desk.read(lambda store, caller: keys.list_keys(store, caller, request.account_id, page))
        return identity_pb2.ListApiKeysResponse(
            api_keys=map(key_to_proto, found.rows), next_page_token=found.next_page_token
        )

    async def RevokeApiKey(self, request: identity_pb2.RevokeApiKeyRequest, _: object) -> identity_pb2.ApiKey:
        """Revoke an API key."""
        return await self._desk.write(
            request,
            identity_pb2.ApiKey,
            lambda store, caller, now_ms: keys.revoke_key(store, caller, request.api_key_id, now_ms),
            lambda key, _: key_to_proto(key),
        )

    async def GetMe(self, _request: identity_pb2.GetMeRequest, _: object) -> identity_pb2.Principal:
        """Say who the caller is."""
        return principal_to_proto(current_call().caller, whole_path=False)

    async def Authenticate(self, request: identity_pb2.AuthenticateRequest, _: object) -> identity_pb2.Principal:
        """Resolve an API key, for a service."""
        current_call().caller.require_service()
        return principal_to_proto(await self._resolve_key(request.credential), whole_path=True)


def _created(created: tuple[ApiKey, Credential], _: Principal) -> identity_pb2.CreateApiKeyResponse:
    key, credential = created
    return identity_pb2.CreateApiKeyResponse(api_key=key_to_proto(key), credential=credential.text)


def _without_credential(response: identity_pb2.CreateApiKeyResponse) -> identity_pb2.CreateApiKeyResponse:
    return identity_pb2.CreateApiKeyResponse(api_key=response.api_key)
