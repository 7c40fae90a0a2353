"""Companies, the account tree, API keys, and the tables of writes."""

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
        "company",
        sa.Column("id", ID, primary_key=True),
        sa.Column("owner_path", sa.Text, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("name_folded", sa.Text, nullable=False),
        sa.Column("type", sa.SmallInteger, nullable=False),
        sa.Column("details", sa.JSON, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_ms", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_index("ix_company_owner_path", "company", ["owner_path"])
    op.create_index("ix_company_created_ms", "company", ["created_ms", "id"])
    op.create_table(
        "account",
        sa.Column("id", ID, primary_key=True),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("parent_id", ID, sa.ForeignKey("account.id")),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("company_id", ID, sa.ForeignKey("company.id")),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("name_folded", sa.Text, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("suspension_cause", sa.SmallInteger, nullable=False),
        sa.Column("state_reason", sa.String(500), nullable=False),
        sa.Column("currency", sa.String(3)),
        sa.Column("credit_limit_micros", sa.BigInteger),
        sa.Column("billing_cycle_day", sa.SmallInteger),
        sa.Column("time_zone", ID),
        sa.Column("external_account_number", ID, nullable=False),
        sa.Column("notes", sa.Text, nullable=False),
        sa.Column("application_types", sa.JSON, nullable=False),
        sa.Column("device_types", sa.JSON, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_ms", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
    )
    op.create_index("ix_account_parent_id", "account", ["parent_id"])
    op.create_index("ix_account_path", "account", ["path"])
    op.create_index("ix_account_company_id", "account", ["company_id"])
    op.create_index("ix_account_created_ms", "account", ["created_ms", "id"])
    op.create_table(
        "api_key",
        sa.Column("id", ID, primary_key=True),
        sa.Column("account_id", ID, sa.ForeignKey("account.id"), nullable=False),
        sa.Column("owner_path", sa.Text, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("role", sa.SmallInteger, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("expires_ms", sa.BigInteger),
        sa.Column("revoked_ms", sa.BigInteger),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("bootstrap", sa.Boolean, nullable=False),
    )
    op.create_index("ix_api_key_account_id", "api_key", ["account_id"])
    op.create_index("ix_api_key_owner_path", "api_key", ["owner_path"])
    op.create_index("ix_api_key_created_ms", "api_key", ["created_ms", "id"])


def downgrade() -> None:
    for table in ("api_key", "account", "company", "change", "audit_entry", "request"):
        op.drop_table(table)
