"""The account tree as other services see it: asked of accounts once, kept current by its change feed."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from meterline.accounts.v1 import accounts_pb2, accounts_pb2_grpc
from services.common.errors import MeterlineError, not_found
from services.common.identity import AccountKind
from services.runtime.amounts import micros_of
from services.runtime.channels import Channel
from services.runtime.telemetry import logger

BATCH = 1000
CACHE_ENTRIES_MAX = 100_000
RETRY_SECONDS = 0.5

log = logger("directory")


@dataclass(frozen=True, slots=True)
class AccountView:
    """What other services need of an account.

    Attributes:
        id: its id.
        kind: what it is.
        active: whether its state is ACTIVE.
        state: name of its state, for example `SUSPENDED`.
        path: ids from the OPERATOR down to it, itself included.
        currency: ISO 4217 code.
        credit_limit_micros: most that it may owe; None means no limit.
        billing_cycle_day: 1 to 28.
        time_zone: IANA name.
    """

    id: str
    kind: AccountKind
    active: bool
    state: str
    path: tuple[str, ...]
    currency: str
    credit_limit_micros: int | None
    billing_cycle_day: int
    time_zone: str

    @property
    def parent_id(self) -> str:
        """The account above; empty for the OPERATOR."""
        return self.path[-2] if len(self.path) > 1 else ""

    @property
    def enterprise_id(self) -> str:
        """The enterprise that it is or is a partition of; empty above enterprises."""
        if self.kind is AccountKind.ENTERPRISE:
            return self.id
        return self.parent_id if self.kind is AccountKind.SUB_ACCOUNT else ""


def to_view(account: accounts_pb2.Account) -> AccountView:
    """Read an account of the contract."""
    return AccountView(
        id=account.id,
        kind=AccountKind(account.kind),
        active=account.state == accounts_pb2.ACCOUNT_STATE_ACTIVE,
        state=accounts_pb2.AccountState.Name(account.state).removeprefix("ACCOUNT_STATE_"),
        path=tuple(account.path),
        currency=account.currency,
        credit_limit_micros=micros_of(account.credit_limit) if account.HasField("credit_limit") else None,
        billing_cycle_day=account.billing_cycle_day or 1,
        time_zone=account.time_zone or "UTC",
    )


class AccountDirectory:
    """A cached view of accounts. `follow` keeps it current; without it running, nothing is kept.

    Args:
        channel: leads to accounts.
        on_key_change: called when an API key has changed or an account has ended: `Authenticator.forget`.
    """

    def __init__(self, channel: Channel, on_key_change: Callable[[], None] = lambda: None) -> None:
        self._channel = channel
        self._on_key_change = on_key_change
        self._stub = accounts_pb2_grpc.AccountServiceStub(channel.grpc)
        self._accounts: dict[str, AccountView] = {}
        self._following = 0
        """Counts the feeds that were followed; 0 while none is."""
        self._feeds = 0

    async def get(self, account_id: str) -> AccountView:
        """Return an account, or raise NOT_FOUND."""
        known = self._accounts.get(account_id)
        if known is not None:
            return known
        found = await self.get_many([account_id])
        if account_id not in found:
            raise not_found("account", account_id)
        return found[account_id]

    async def get_many(self, account_ids: Iterable[str]) -> dict[str, AccountView]:
        """Return those of the accounts that exist."""
        wanted, following = list(dict.fromkeys(account_ids)), self._following
        found = {key: self._accounts[key] for key in wanted if key in self._accounts}
        missing = [key for key in wanted if key not in found]
        for start in range(0, len(missing), BATCH):
            request = accounts_pb2.BatchGetAccountsRequest(account_ids=missing[start : start + BATCH])
            response = await self._channel.call(self._stub.BatchGetAccounts, request)
            for account in response.accounts:
                view = to_view(account)
                found[view.id] = view
                if following and following == self._following:  # asked and answered while the feed was followed
                    self._accounts.setdefault(view.id, view)  # what the feed brought meanwhile is newer
        return found

    async def follow(self) -> None:
        """Keep the view current until cancelled. While the feed is broken, nothing is kept: every look-up asks."""
        while True:
            try:
                await self._follow_once()
            except MeterlineError as error:
                log.info("feed broken", reason=error.reason)
            self._following = 0
            self._accounts.clear()
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow_once(self) -> None:
        request = accounts_pb2.WatchAccountChangesRequest(from_cursor=-1)
        self._feeds += 1
        async for change in self._channel.stream(self._stub.WatchAccountChanges, request):
            self._following = self._feeds
            if change.api_key_id or change.account.state == accounts_pb2.ACCOUNT_STATE_TERMINATED:
                self._on_key_change()
            if change.HasField("account"):
                if len(self._accounts) >= CACHE_ENTRIES_MAX:
                    self._accounts.clear()
                self._accounts[change.account.id] = to_view(change.account)
