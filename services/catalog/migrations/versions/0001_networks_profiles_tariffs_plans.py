"""Networks, coverage, profiles, zones, tariffs, plans, and the tables of writes."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.String(64)
CURSOR = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    create_tables_of_writes()
    create_networks()
    for name in ("service_profile", "roaming_profile", "apn_group", "rate_zone"):
        create_owned(name, *state())
    create_tariffs()
    create_plans()
    op.create_table(
        "reference",
        sa.Column("source_id", ID, primary_key=True),
        sa.Column("source_version", sa.Integer, primary_key=True),
        sa.Column("target_id", ID, primary_key=True),
    )
    op.create_index("ix_reference_target_id", "reference", ["target_id"])


def create_tables_of_writes() -> None:
    op.create_table(
        "request",
        sa.Column("account_id", ID, primary_key=True),
        sa.Column("method", sa.String(128), primary_key=True),
        sa.Column("request_id", sa.String(128), primary_key=True),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "audit_entry",
        sa.Column("id", ID, primary_key=True),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("actor", ID, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("method", sa.String(128), nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("resource_type", ID, nullable=False),
        sa.Column("resource_id", ID, nullable=False),
        sa.Column("owner_account_id", ID, nullable=False),
        sa.Column("owner_path", sa.Text, nullable=False),
        sa.Column("before", sa.JSON),
        sa.Column("after", sa.JSON),
    )
    op.create_index("ix_audit_entry_resource_id", "audit_entry", ["resource_id"])
    op.create_index("ix_audit_entry_owner_path", "audit_entry", ["owner_path"])
    op.create_table(
        "change",
        sa.Column("cursor", CURSOR, primary_key=True, autoincrement=True),
        sa.Column("resource_type", ID, nullable=False),
        sa.Column("resource_id", ID, nullable=False),
        sqlite_autoincrement=True,
    )


def create_networks() -> None:
    op.create_table(
        "network",
        sa.Column("id", ID, primary_key=True),
        sa.Column("mcc", sa.String(3), nullable=False),
        sa.Column("mnc", sa.String(3), nullable=False),
        sa.Column("country_code", sa.String(6), nullable=False),
        sa.Column("country_name", sa.String(200), nullable=False),
        sa.Column("brand", sa.String(200), nullable=False),
        sa.Column("operator", sa.String(300), nullable=False),
        sa.Column("access_types", sa.JSON, nullable=False),
        sa.Column("operational", sa.Boolean, nullable=False),
        sa.Column("search_text", sa.Text, nullable=False),
    )
    op.create_index("ix_network_country_code_mcc_mnc", "network", ["country_code", "mcc", "mnc"])
    for name, content in (("coverage", "network_ids"), ("service_scope", "services")):
        op.create_table(
            name,
            sa.Column("account_id", ID, primary_key=True),
            sa.Column("owner_path", sa.Text, nullable=False),
            sa.Column(content, sa.JSON, nullable=False),
        )
        op.create_index(f"ix_{name}_owner_path", name, ["owner_path"])


def create_tariffs() -> None:
    create_owned("tariff", sa.Column("newest_version", sa.Integer, nullable=False))
    op.create_table(
        "tariff_version",
        sa.Column("id", ID, sa.ForeignKey("tariff.id"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("effective_ms", sa.BigInteger),
        sa.Column("name", sa.String(200), nullable=False),
        *state(),
    )


def create_plans() -> None:
    create_owned(
        "plan",
        sa.Column("newest_version", sa.Integer, nullable=False),
        sa.Column("type", sa.SmallInteger, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("search_text", sa.Text, nullable=False),
    )
    op.create_table(
        "plan_version",
        sa.Column("id", ID, sa.ForeignKey("plan.id"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        *state(),
    )
    op.create_table(
        "plan_designation",
        sa.Column("plan_id", ID, sa.ForeignKey("plan.id"), primary_key=True),
        sa.Column("account_id", ID, primary_key=True),
    )
    op.create_index("ix_plan_designation_account_id", "plan_designation", ["account_id"])


def create_owned(name: str, *columns: sa.Column[Any]) -> None:
    op.create_table(
        name,
        sa.Column("id", ID, primary_key=True),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("owner_path", sa.Text, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("system_managed", sa.Boolean, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        *columns,
        sa.UniqueConstraint("account_id", "name", name=f"uq_{name}_account_id_name"),
    )
    op.create_index(f"ix_{name}_owner_path", name, ["owner_path"])


def state() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("updated_ms", sa.BigInteger, nullable=False),
        sa.Column("etag", sa.Integer, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
    )
