"""Events as the fold has posted them."""

import sqlalchemy as sa

from services.common.pages import PageRequest
from services.rating.domain.happenings import Happening
from services.rating.storage.tables import events
from services.rating.usecases.happenings import Wanted
from services.runtime.database import Database


class Happenings:
    """Reads events of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, under: str, wanted: Wanted, page: PageRequest) -> list[Happening]:
        """Up to `page.size + 1` events of accounts whose path begins with `under`, newest first."""
        columns = events.c
        query = sa.select(events).where(columns.owner_path.startswith(under, autoescape=True))
        if wanted.type:
            query = query.where(columns.type == wanted.type)
        if wanted.account_id:
            query = query.where(columns.account_id == wanted.account_id)
        if wanted.resource_id:
            query = query.where(columns.resource_id == wanted.resource_id)
        if wanted.endpoint_id:
            query = query.where(columns.payload["holder_id"].as_string() == wanted.endpoint_id)
        if after := page.key(int, str):
            query = query.where(sa.tuple_(columns.created_ms, columns.id) < after)
        query = query.order_by(columns.created_ms.desc(), columns.id.desc()).limit(page.size + 1)
        async with self._database.reading() as connection:
            return [Happening(**row) for row in (await connection.execute(query)).mappings()]
