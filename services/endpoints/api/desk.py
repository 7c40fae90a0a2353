"""What the servicers work with: a store to write or read, and the other services."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import Message

from services.common.identity import Principal
from services.endpoints.ports import Accounts, Catalog, Store
from services.runtime.server import current_call
from services.runtime.writes import Write, Writes

T = TypeVar("T")
M = TypeVar("M", bound=Message)

UseCase = Callable[[Store, Principal, int], Awaitable[T]]
"""Does a write for a caller at a time, milliseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What the servicers work with.

    Attributes:
        writes: runs writes.
        writing: makes the store of a write.
        reading: opens a store that only reads.
        accounts: the account tree.
        catalog: plans and profiles.
    """

    writes: Writes
    writing: Callable[[Write], Store]
    reading: Callable[[], AbstractAsyncContextManager[Store]]
    accounts: Accounts
    catalog: Catalog

    async def write(
        self,
        request: Message,
        response_type: type[M],
        use_case: UseCase[T],
        answer: Callable[[T], M],
        *,
        settles: bool = False,
    ) -> M:
        """Run a write of the present call once, however often it is asked for; rating sees it if it `settles`."""
        call = current_call()
        return await self.writes.run(
            call.caller,
            call.method,
            request,
            response_type,
            lambda write: use_case(self.writing(write), call.caller, write.now_ms),
            answer,
            settles=settles,
        )
