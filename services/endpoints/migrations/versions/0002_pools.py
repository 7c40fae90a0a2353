"""Assignments of base plans whose volumes the endpoints of an enterprise share."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("assignment", sa.Column("pool_account_id", sa.String(64)))
    op.create_index("ix_assignment_pool_account_id", "assignment", ["pool_account_id"])
