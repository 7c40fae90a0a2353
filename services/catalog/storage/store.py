"""One transaction over all of the catalogue, and how it is opened."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy as sa

from services.catalog.domain.profiles import ApnGroup
from services.catalog.domain.zones import RateZone
from services.catalog.storage import tables
from services.catalog.storage.coverage import SqlCoverages, SqlRoamingProfiles, SqlScopes, SqlServiceProfiles
from services.catalog.storage.networks import SqlNetworks
from services.catalog.storage.session import Session
from services.catalog.storage.shelves import ItemRows, SqlShelf
from services.catalog.storage.versions import SqlPlans, SqlReferences, SqlTariffs
from services.runtime.database import Database
from services.runtime.writes import Write

_WRITES_LOCK = 7021
_APN_GROUP = ItemRows(ApnGroup)
_RATE_ZONE = ItemRows(RateZone)


class SqlStore:
    """The repositories of one transaction."""

    def __init__(self, session: Session) -> None:
        self.networks = SqlNetworks(session)
        self.coverages = SqlCoverages(session)
        self.scopes = SqlScopes(session)
        self.service_profiles = SqlServiceProfiles(session)
        self.roaming_profiles = SqlRoamingProfiles(session)
        self.apn_groups = SqlShelf(session, "apn_group", tables.apn_groups, _APN_GROUP)
        self.rate_zones = SqlShelf(session, "rate_zone", tables.rate_zones, _RATE_ZONE)
        self.tariffs = SqlTariffs(session)
        self.plans = SqlPlans(session)
        self.references = SqlReferences(session)


class SqlStores:
    """Opens stores on a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def for_write(self, write: Write) -> SqlStore:
        """Return the store of a write. Writes run one after another: no rule can be broken between two of them."""
        if not self._database.is_sqlite:  # SQLite has one writer by nature
            await write.connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_WRITES_LOCK})"))
        return SqlStore(Session(write.connection, write))

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[SqlStore]:
        """Open a store that only reads: one consistent view."""
        async with self._database.reading() as connection:
            yield SqlStore(Session(connection))
