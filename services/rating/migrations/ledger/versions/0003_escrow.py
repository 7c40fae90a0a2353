"""Limits that cells share; holders by name and cell."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "escrow",
        sa.Column("account_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("limit_total", sa.BigInteger(), nullable=False),
        sa.Column("limit_version", sa.BigInteger(), nullable=False),
        sa.Column("free", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "kind"),
    )
    op.create_table(
        "escrow_lease",
        sa.Column("account_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("cell", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("leased", sa.BigInteger(), nullable=False),
        sa.Column("returned", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "kind", "cell"),
    )
    _image_with_key("name", "cell")


def downgrade() -> None:
    _image_with_key("name")
    op.drop_table("escrow_lease")
    op.drop_table("escrow")


def _image_with_key(*key: str) -> None:
    op.drop_index(op.f("ix_image_cell"), table_name="image")
    op.rename_table("image", "image_before")
    op.create_table(
        "image",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("cell", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint(*key, name=f"image_by_{'_'.join(key)}"),
    )
    op.execute("INSERT INTO image (name, cell, value) SELECT name, cell, value FROM image_before")
    op.drop_table("image_before")
    op.create_index(op.f("ix_image_cell"), "image", ["cell"], unique=False)
