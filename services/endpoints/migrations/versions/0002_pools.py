"""Assignments of base plans whose volumes the endpoints of an enterprise share."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("assignment", sa.Column("pool_account_id", sa.String(64)))
    op.create_table(
        "pool_member",
        sa.Column("pool_account_id", sa.String(64), primary_key=True),
        sa.Column("plan_id", sa.String(64), primary_key=True),
        sa.Column("plan_version", sa.Integer, primary_key=True),
        sa.Column("stretch", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("members", sa.BigInteger, nullable=False),
        sa.Column("sum_ms", sa.BigInteger, nullable=False),
        sa.Column("since_ms", sa.BigInteger, nullable=False),
        sa.Column("changes", sa.BigInteger, nullable=False),
    )
