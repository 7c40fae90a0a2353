"""SIMs, endpoints with their tags, assignments, and the tables of writes."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.String(64)


def upgrade() -> None:
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
        sa.Column("cursor", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("resource_type", ID, nullable=False),
        sa.Column("resource_id", ID, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "sim",
        sa.Column("id", ID, primary_key=True),
        sa.Column("iccid", sa.String(20), nullable=False, unique=True),
        sa.Column("imsi", sa.String(15), nullable=False, unique=True),
        sa.Column("msisdn", sa.String(15), unique=True),
        sa.Column("esim", sa.Boolean, nullable=False),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("enterprise_id", ID, nullable=False),
        sa.Column("owner_path", sa.Text, nullable=False),
        sa.Column("importer_account_id", ID, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_sim_owner_path", "sim", ["owner_path"])
    op.create_index("ix_sim_account_id", "sim", ["account_id", "id"])
    op.create_index("ix_sim_enterprise_id", "sim", ["enterprise_id", "id"])
    op.create_table(
        "endpoint",
        sa.Column("id", ID, primary_key=True),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("enterprise_id", ID, nullable=False),
        sa.Column("owner_path", sa.Text, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("sim_id", ID, sa.ForeignKey("sim.id"), unique=True),
        sa.Column("apn_group_id", ID, nullable=False),
        sa.Column("barred_services", sa.JSON, nullable=False),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_ms", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_index("ix_endpoint_owner_path", "endpoint", ["owner_path"])
    op.create_index("ix_endpoint_account_id", "endpoint", ["account_id", "id"])
    op.create_index("ix_endpoint_enterprise_id", "endpoint", ["enterprise_id", "id"])
    op.create_table(
        "endpoint_tag",
        sa.Column("tag", sa.String(64), primary_key=True),
        sa.Column("endpoint_id", ID, sa.ForeignKey("endpoint.id"), primary_key=True),
    )
    op.create_index("ix_endpoint_tag_endpoint_id", "endpoint_tag", ["endpoint_id"])
    op.create_table(
        "assignment",
        sa.Column("id", ID, primary_key=True),
        sa.Column("plan_id", ID, nullable=False),
        sa.Column("plan_version", sa.Integer, nullable=False),
        sa.Column("endpoint_id", ID, sa.ForeignKey("endpoint.id")),
        sa.Column("account_id", ID, nullable=False),
        sa.Column("enterprise_id", ID, nullable=False),
        sa.Column("owner_path", sa.Text, nullable=False),
        sa.Column("role", sa.SmallInteger, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("assigned_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_ms", sa.BigInteger),
        sa.Column("removed_ms", sa.BigInteger),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_index("ix_assignment_owner_path", "assignment", ["owner_path"])
    op.create_index("ix_assignment_endpoint_id", "assignment", ["endpoint_id", "id"])
    op.create_index("ix_assignment_account_id", "assignment", ["account_id", "id"])
    op.create_index("ix_assignment_enterprise_id", "assignment", ["enterprise_id", "id"])
    _create_unique_among("ux_assignment_endpoint_base", "endpoint_id", "role = 1 AND removed_ms IS NULL")
    _create_unique_among(
        "ux_assignment_account_base", "account_id", "role = 1 AND removed_ms IS NULL AND endpoint_id IS NULL"
    )


def _create_unique_among(name: str, column: str, condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, "assignment", [column], unique=True, sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    for table in ("assignment", "endpoint_tag", "endpoint", "sim", "change", "audit_entry", "request"):
        op.drop_table(table)
