"""Runs use cases in the context of the current call."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from services.accounts.ports import Store
from services.common.identity import Principal
from services.runtime.server import current_call
from services.runtime.writes import Write, Writes

T = TypeVar("T")
M = TypeVar("M", bound=Message)


class Stores(Protocol):
    """Opens stores."""

    def writing(self, write: Write) -> Store:
        """The store in a write."""
        ...

    def reading(self) -> AbstractAsyncContextManager[Store]:
        """The store in a transaction that only reads."""
        ...


class Desk:
    """What the servicers share.

    Args:
        writes: runs writes once.
        stores: opens stores.
    """

    def __init__(self, writes: Writes, stores: Stores) -> None:
        self._writes = writes
        self._stores = stores

    async def write(
        self,
        request: Message,
        response_type: type[M],
        use_case: Callable[[Store, Principal, int], Awaitable[T]],
        answer: Callable[[T, Principal], M],
        stored_answer: Callable[[M], M] = lambda message: message,
        *,
        settles: bool = False,
    ) -> M:
        """Run a use case that writes, with the store, the caller and the time (milliseconds since 1970)."""
        call = current_call()
        return await self._writes.run(
            call.caller,
            call.method,
            request,
            response_type,
            lambda write: use_case(self._stores.writing(write), call.caller, write.now_ms),
            lambda result: answer(result, call.caller),
            stored_answer,
            settles=settles,
        )

    async def read(self, use_case: Callable[[Store, Principal], Awaitable[T]]) -> T:
        """Run a use case that only reads, with the store and the caller."""
        async with self._stores.reading() as store:
            return await use_case(store, current_call().caller)

    def now_ms(self) -> int:
        """The time, milliseconds since 1970."""
        return self._writes.clock.now_ms()
