"""Lists what happened to balances and endpoints, for those who own them and the accounts above."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.common.identity import READERS, Principal, tree_of
from services.common.pages import Page, PageRequest, page_of
from services.rating.domain.happenings import Happening
from services.rating.ports import Terms
from services.rating.usecases.seeing import require_own_endpoint


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events are asked for; empty fields select all."""

    type: str = ""
    account_id: str = ""
    resource_id: str = ""
    endpoint_id: str = ""


class HappeningsStore(Protocol):
    """The events as they are read."""

    async def list(self, under: str, wanted: Wanted, page: PageRequest) -> Sequence[Happening]:
        """Up to `page.size + 1` events of accounts whose path begins with `under`, newest first."""
        ...


class Happenings:
    """Reads events for a caller."""

    def __init__(self, store: HappeningsStore, terms: Terms) -> None:
        self._store = store
        self._terms = terms

    async def list(self, caller: Principal, wanted: Wanted, page: PageRequest) -> Page[Happening]:
        """List events, newest first."""
        caller.require_role(*READERS)
        await require_own_endpoint(self._terms, caller, wanted.endpoint_id)
        return page_of(await self._store.list(tree_of(caller), wanted, page), page, "created_ms", "id")
