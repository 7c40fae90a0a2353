"""Assignments of accounts themselves are found without reading those of all their endpoints."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_assignment_account_id", "assignment")
    op.create_index("ix_assignment_account_id", "assignment", ["account_id", "endpoint_id", "id"])
