"""Rules that refill a bundle, what their payments buy, and where a payment went whose balance was gone."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

NUMBERS = ("refill_quantity", "refill_validity_ms", "refill_maximum")
NAMES = ("balance_id", "redirected_from")


def upgrade() -> None:
    for table, numbers in (("auto_refill_rule", ("threshold_quantity", *NUMBERS)), ("payment", NUMBERS)):
        for name in numbers:
            op.add_column(table, sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    for name in NAMES:
        op.add_column("payment", sa.Column(name, sa.String(length=100), nullable=False, server_default=""))
