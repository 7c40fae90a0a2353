"""The tables. What is queried has a column of its own; paths are written so that a prefix selects a subtree."""

import sqlalchemy as sa

from services.runtime.writes import runtime_tables

metadata = sa.MetaData()
runtime = runtime_tables(metadata)

ID = sa.String(64)

companies = sa.Table(
    "company",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("owner_path", sa.Text, nullable=False, index=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("name_folded", sa.Text, nullable=False),
    sa.Column("type", sa.SmallInteger, nullable=False),
    sa.Column("details", sa.JSON, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("updated_ms", sa.BigInteger, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Index("ix_company_created_ms", "created_ms", "id"),
)
"""`name_folded` is what a search in any case looks at: databases differ in what they fold. `details` is the rest."""

accounts = sa.Table(
    "account",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("parent_id", ID, sa.ForeignKey("account.id"), index=True),
    sa.Column("path", sa.Text, nullable=False, index=True),
    sa.Column("company_id", ID, sa.ForeignKey("company.id"), index=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("name_folded", sa.Text, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("suspension_cause", sa.SmallInteger, nullable=False),
    sa.Column("state_reason", sa.String(500), nullable=False),
    sa.Column("currency", sa.String(3)),
    sa.Column("credit_limit_micros", sa.BigInteger),
    sa.Column("billing_cycle_day", sa.SmallInteger),
    sa.Column("time_zone", sa.String(64)),
    sa.Column("external_account_number", sa.String(64), nullable=False),
    sa.Column("notes", sa.Text, nullable=False),
    sa.Column("application_types", sa.JSON, nullable=False),
    sa.Column("device_types", sa.JSON, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("updated_ms", sa.BigInteger, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Index("ix_account_created_ms", "created_ms", "id"),
)
"""A SUB_ACCOUNT's company, currency, limit, cycle and zone are null: they are its parent's, read through (R120)."""

api_keys = sa.Table(
    "api_key",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("account_id", ID, sa.ForeignKey("account.id"), nullable=False, index=True),
    sa.Column("owner_path", sa.Text, nullable=False, index=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("role", sa.SmallInteger, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("expires_ms", sa.BigInteger),
    sa.Column("revoked_ms", sa.BigInteger),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("bootstrap", sa.Boolean, nullable=False),
    sa.Index("ix_api_key_created_ms", "created_ms", "id"),
)
"""`digest` is the SHA-256 of the secret; the secret itself is nowhere."""
