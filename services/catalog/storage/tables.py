"""The tables of the catalogue: explicit columns for what is queried, JSON for the detail of an object."""

import sqlalchemy as sa

from services.runtime.writes import runtime_tables

metadata = sa.MetaData()
runtime = runtime_tables(metadata)

_ID = sa.String(64)


def _owned(name: str, *columns: sa.Column[object]) -> sa.Table:
    """A table of objects that an account owns, one with a name."""
    return sa.Table(
        name,
        metadata,
        sa.Column("id", _ID, primary_key=True),
        sa.Column("account_id", _ID, nullable=False),
        sa.Column("owner_path", sa.Text, nullable=False, index=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("system_managed", sa.Boolean, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        *columns,
        sa.UniqueConstraint("account_id", "name", name=f"uq_{name}_account_id_name"),
    )


def _state() -> tuple[sa.Column[object], ...]:
    """What changes with an object's content."""
    return (
        sa.Column("updated_ms", sa.BigInteger, nullable=False),
        sa.Column("etag", sa.Integer, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
    )


networks = sa.Table(
    "network",
    metadata,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("mcc", sa.String(3), nullable=False),
    sa.Column("mnc", sa.String(3), nullable=False),
    sa.Column("country_code", sa.String(6), nullable=False),
    sa.Column("country_name", sa.String(200), nullable=False),
    sa.Column("brand", sa.String(200), nullable=False),
    sa.Column("operator", sa.String(300), nullable=False),
    sa.Column("access_types", sa.JSON, nullable=False),
    sa.Column("operational", sa.Boolean, nullable=False),
    sa.Column("search_text", sa.Text, nullable=False),
    sa.Index("ix_network_country_code_mcc_mnc", "country_code", "mcc", "mnc"),
)

coverages = sa.Table(
    "coverage",
    metadata,
    sa.Column("account_id", _ID, primary_key=True),
    sa.Column("owner_path", sa.Text, nullable=False, index=True),
    sa.Column("network_ids", sa.JSON, nullable=False),
)

scopes = sa.Table(
    "service_scope",
    metadata,
    sa.Column("account_id", _ID, primary_key=True),
    sa.Column("owner_path", sa.Text, nullable=False, index=True),
    sa.Column("services", sa.JSON, nullable=False),
)

service_profiles = _owned("service_profile", *_state())
roaming_profiles = _owned("roaming_profile", *_state())
apn_groups = _owned("apn_group", *_state())
rate_zones = _owned("rate_zone", *_state())

tariffs = _owned("tariff", sa.Column("newest_version", sa.Integer, nullable=False))
tariff_versions = sa.Table(
    "tariff_version",
    metadata,
    sa.Column("id", _ID, sa.ForeignKey("tariff.id"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("effective_ms", sa.BigInteger),
    sa.Column("name", sa.String(200), nullable=False),
    *_state(),
)

plans = _owned(
    "plan",
    sa.Column("newest_version", sa.Integer, nullable=False),
    sa.Column("type", sa.SmallInteger, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("search_text", sa.Text, nullable=False),
)
plan_versions = sa.Table(
    "plan_version",
    metadata,
    sa.Column("id", _ID, sa.ForeignKey("plan.id"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(200), nullable=False),
    *_state(),
)
plan_designations = sa.Table(
    "plan_designation",
    metadata,
    sa.Column("plan_id", _ID, sa.ForeignKey("plan.id"), primary_key=True),
    sa.Column("account_id", _ID, primary_key=True, index=True),
)

references = sa.Table(
    "reference",
    metadata,
    sa.Column("source_id", _ID, primary_key=True),
    sa.Column("source_version", sa.Integer, primary_key=True),
    sa.Column("target_id", _ID, primary_key=True, index=True),
)
