"""What the servicers work with: a store to write or read, and the account tree."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from services.catalog.domain.items import Owner
from services.catalog.ports import Accounts, Store
from services.catalog.usecases.items import find_account, find_owner
from services.common.identity import READERS, WRITERS, Principal
from services.runtime.server import current_call
from services.runtime.writes import Write, Writes

T = TypeVar("T")
M = TypeVar("M", bound=Message)

UseCase = Callable[[Store, int], Awaitable[T]]
"""Does a write at a time, milliseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What the servicers work with.

    Attributes:
        writes: runs writes.
        writing: makes the store of a write.
        reading: opens a store that only reads.
        accounts: the account tree.
    """

    writes: Writes
    writing: Callable[[Write], Awaitable[Store]]
    reading: Callable[[], AbstractAsyncContextManager[Store]]
    accounts: Accounts

    def reader(self) -> Principal:
        """The caller, who has to be one that may read."""
        caller = current_call().caller
        caller.require_role(*READERS)
        return caller

    def writer(self) -> Principal:
        """The caller, who has to be one that may write."""
        caller = current_call().caller
        caller.require_role(*WRITERS)
        return caller

    def service(self) -> Principal:
        """The caller, who has to be one of Meterline's own services."""
        caller = current_call().caller
        caller.require_service()
        return caller

    async def account(self, caller: Principal, account_id: str) -> Owner:
        """An account that the caller sees. Asked before the transaction, which then waits for nobody else."""
        return await find_account(self.accounts, caller, account_id)

    async def owner(self, caller: Principal, account_id: str) -> Owner:
        """The account that shall own an object; the caller's own if the id is empty."""
        return await find_owner(self.accounts, caller, account_id)

    async def write(
        self,
        request: Message,
        response_type: type[M],
        use_case: UseCase[T],
        answer: Callable[[T], M],
        *,
        settles: bool = True,
    ) -> M:
        """Run a write of the present call once, however often it is asked for; rating sees it if it `settles`."""
        call = current_call()

        async def body(write: Write) -> T:
            return await use_case(await self.writing(write), write.now_ms)

        return await self.writes.run(call.caller, call.method, request, response_type, body, answer, settles=settles)


def empty(_: None) -> Empty:
    """The answer of a deletion."""
    return Empty()
