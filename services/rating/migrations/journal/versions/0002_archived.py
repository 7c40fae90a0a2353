"""How far each cell's segments were moved to archives."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("cell", sa.Column("archived", sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("cell", "archived")
