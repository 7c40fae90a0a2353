"""The ledger as it begins."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "answered_request",
        sa.Column("id_digest", sa.LargeBinary(length=16), nullable=False),
        sa.Column("body_digest", sa.LargeBinary(length=8), nullable=False),
        sa.Column("cell", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("operation", sa.Integer(), nullable=False),
        sa.Column("answer", sa.BigInteger(), nullable=False),
        sa.Column("decided_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id_digest"),
    )
    op.create_table(
        "audit_entry",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("account_id", sa.String(length=64), nullable=False),
        sa.Column("method", sa.String(length=128), nullable=False),
        sa.Column("request_id", sa.String(length=128), nullable=False),
        sa.Column("resource_type", sa.String(length=64), nullable=False),
        sa.Column("resource_id", sa.String(length=64), nullable=False),
        sa.Column("owner_account_id", sa.String(length=64), nullable=False),
        sa.Column("owner_path", sa.Text(), nullable=False),
        sa.Column("before", sa.JSON(), nullable=True),
        sa.Column("after", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_audit_entry_owner_path"), "audit_entry", ["owner_path"], unique=False)
    op.create_index(op.f("ix_audit_entry_resource_id"), "audit_entry", ["resource_id"], unique=False)
    op.create_table(
        "balance",
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("holder_id", sa.String(length=64), nullable=False),
        sa.Column("remaining", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_balance_holder_id"), "balance", ["holder_id"], unique=False)
    op.create_table(
        "chain",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("path"),
    )
    op.create_table(
        "cursor",
        sa.Column("cell", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("decided_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("cell"),
    )
    op.create_table(
        "image",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("cell", sa.Integer(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index(op.f("ix_image_cell"), "image", ["cell"], unique=False)
    op.create_table(
        "ledger_entry",
        sa.Column("cell", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("balance_id", sa.String(length=100), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("change", sa.BigInteger(), nullable=False),
        sa.Column("cause_id", sa.String(length=100), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("cell", "sequence", "number"),
    )
    op.create_index("ledger_entry_balance", "ledger_entry", ["balance_id", "sequence", "number"], unique=False)
    op.create_table(
        "refusal_total",
        sa.Column("chain_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("endpoint_id", sa.String(length=64), nullable=False),
        sa.Column("service", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("reason", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("step", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "day", "endpoint_id", "service", "reason", "step"),
    )
    op.create_table(
        "usage_record",
        sa.Column("cell", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id_digest", sa.LargeBinary(length=16), nullable=False),
        sa.Column("body_digest", sa.LargeBinary(length=8), nullable=False),
        sa.Column("event_id", sa.String(length=64), nullable=False),
        sa.Column("endpoint_id", sa.String(length=64), nullable=False),
        sa.Column("chain_id", sa.Integer(), nullable=False),
        sa.Column("service", sa.SmallInteger(), nullable=False),
        sa.Column("network_id", sa.String(length=64), nullable=False),
        sa.Column("access_type", sa.SmallInteger(), nullable=False),
        sa.Column("usage_ms", sa.BigInteger(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("mode", sa.SmallInteger(), nullable=False),
        sa.Column("outcome", sa.SmallInteger(), nullable=False),
        sa.Column("reason", sa.SmallInteger(), nullable=False),
        sa.Column("refused_step", sa.SmallInteger(), nullable=False),
        sa.Column("uncovered", sa.BigInteger(), nullable=False),
        sa.Column("throttled", sa.SmallInteger(), nullable=False),
        sa.Column("program_id", sa.String(length=24), nullable=False),
        sa.Column("steps", sa.LargeBinary(), nullable=False),
        sa.Column("decided_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("cell", "sequence", "position"),
        sa.UniqueConstraint("id_digest"),
    )
    op.create_index("usage_record_chain", "usage_record", ["chain_id", "usage_ms"], unique=False)
    op.create_index("usage_record_endpoint", "usage_record", ["endpoint_id", "usage_ms"], unique=False)
    op.create_table(
        "usage_total",
        sa.Column("chain_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("endpoint_id", sa.String(length=64), nullable=False),
        sa.Column("network_id", sa.String(length=64), nullable=False),
        sa.Column("service", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("step", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.Column("benefit", sa.BigInteger(), nullable=False),
        sa.Column("uncovered", sa.BigInteger(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "day", "endpoint_id", "network_id", "service", "step", "currency"),
    )


def downgrade() -> None:
    op.drop_table("usage_total")
    op.drop_index("usage_record_endpoint", table_name="usage_record")
    op.drop_index("usage_record_chain", table_name="usage_record")
    op.drop_table("usage_record")
    op.drop_table("refusal_total")
    op.drop_index("ledger_entry_balance", table_name="ledger_entry")
    op.drop_table("ledger_entry")
    op.drop_index(op.f("ix_image_cell"), table_name="image")
    op.drop_table("image")
    op.drop_table("cursor")
    op.drop_table("chain")
    op.drop_index(op.f("ix_balance_holder_id"), table_name="balance")
    op.drop_table("balance")
    op.drop_index(op.f("ix_audit_entry_resource_id"), table_name="audit_entry")
    op.drop_index(op.f("ix_audit_entry_owner_path"), table_name="audit_entry")
    op.drop_table("audit_entry")
    op.drop_table("answered_request")
