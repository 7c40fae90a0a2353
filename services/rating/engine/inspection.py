"""A cell's state in Valkey as it lies there, while others may change it."""

from collections.abc import AsyncIterator, Mapping

from services.rating.domain.balances import Holder
from services.rating.domain.decisions import SessionState as State
from services.rating.domain.programs import StepMode
from services.rating.engine.driver import Engine, _translated
from services.rating.engine.wire import read_holder, read_session
from services.rating.usecases.verifying.sources import Glance, Held, SessionState
from services.runtime.packing import unpack

IDS_READ = 1000
SESSION_RESERVATIONS = 5
"""Place of its reservations in a session's image."""


class StateInspection(Engine):
    """Reads all of a cell's keys."""

    async def glances(self) -> AsyncIterator[Glance]:
        """All holders, leases, refunds and sessions, some at a time, each time with the sequence at which they stood so."""
        for kind in "hlrs":
            async for keys in self._names(f"{self.tag}{kind}:*"):
                names = [key.decode().removeprefix(self.tag) for key in keys]
                with _translated():
                    async with self._client.pipeline(transaction=True) as step:
                        step.hmget(self.meta_key, "sequence")
                        step.mget(keys)
                        if kind == "s":
                            step.zmscore(f"{self.tag}x", [name[2:] for name in names])
                        (sequence,), values, *ends = await step.execute()
                there = {name: value for name, value in zip(names, values, strict=True) if value is not None}
                scored = zip(names, ends[0], strict=True) if ends else ()
                yield Glance(int(sequence or 0), there, {n: int(score) for n, score in scored if score is not None})

    async def answered(self) -> AsyncIterator[Mapping[bytes, bytes]]:
        """Answered ids and what is remembered of their answers, some at a time."""
        async for keys in self._names(f"{self.tag}d:*"):
            for key in keys:
                cursor = -1
                while cursor:
                    with _translated():
                        cursor, some = await self._client.hscan(key, max(cursor, 0), count=IDS_READ)
                    yield some

    def read_holder(self, holder_id: str, image: bytes) -> Holder:
        """Read a holder."""
        return read_holder(holder_id, image)

    def read_session(self, image: bytes) -> SessionState:
        """Read a session."""
        read = read_session(image)
        held = [
            each
            for holder_id, amount, mode, parts, *_ in unpack(image)[SESSION_RESERVATIONS]
            for each in (
                Held(holder_id, "", amount, mode == StepMode.POSTPAID),
                *(Held(holder_id, bucket, quantity, of_credit=False) for bucket, quantity in parts),
            )
        ]
        return SessionState(read.state is State.OPEN, read.due_ms, held)
