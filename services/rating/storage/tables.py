"""The tables of rating: the journal, which is the truth, and the ledger, which is folded from it.

They are two databases (or schemas) because they are written by two processes at two rhythms: the journal commits
what callers wait for, the ledger in large steps behind their back.
"""

import sqlalchemy as sa

from services.runtime.writes import audit_table, requests_table

journal = sa.MetaData()
ledger = sa.MetaData()

ID = sa.String(64)
BIG = sa.BigInteger

cells = sa.Table(
    "cell",
    journal,
    sa.Column("cell", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("archived", BIG, nullable=False, server_default="0"),
)
"""`archived`: the last segment that was moved to an archive."""

segments = sa.Table(
    "segment",
    journal,
    sa.Column("cell", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("sequence", BIG, primary_key=True, autoincrement=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("decided_ms", BIG, nullable=False),
    sa.Column("records", sa.LargeBinary, nullable=False),
    sa.Column("outcomes", sa.LargeBinary, nullable=False),
    sa.Column("images", sa.LargeBinary, nullable=False),
    sa.Column("checksum", BIG, nullable=False),
)

programs = sa.Table(
    "program",
    journal,
    sa.Column("id", sa.String(24), primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
)

cursors = sa.Table(
    "cursor",
    ledger,
    sa.Column("cell", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("sequence", BIG, nullable=False),
    sa.Column("decided_ms", BIG, nullable=False),
)

chains = sa.Table(
    "chain",
    ledger,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("path", sa.Text, nullable=False, unique=True),
)

usage = sa.Table(
    "usage_record",
    ledger,
    sa.Column("cell", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("sequence", BIG, primary_key=True, autoincrement=False),
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("id_digest", sa.LargeBinary(16), nullable=False, unique=True),
    sa.Column("body_digest", sa.LargeBinary(8), nullable=False),
    sa.Column("event_id", ID, nullable=False),
    sa.Column("endpoint_id", ID, nullable=False),
    sa.Column("chain_id", sa.Integer, nullable=False),
    sa.Column("service", sa.SmallInteger, nullable=False),
    sa.Column("network_id", ID, nullable=False),
    sa.Column("access_type", sa.SmallInteger, nullable=False),
    sa.Column("usage_ms", BIG, nullable=False),
    sa.Column("quantity", BIG, nullable=False),
    sa.Column("mode", sa.SmallInteger, nullable=False),
    sa.Column("outcome", sa.SmallInteger, nullable=False),
    sa.Column("reason", sa.SmallInteger, nullable=False),
    sa.Column("refused_step", sa.SmallInteger, nullable=False),
    sa.Column("uncovered", BIG, nullable=False),
    sa.Column("throttled", sa.SmallInteger, nullable=False),
    sa.Column("program_id", sa.String(24), nullable=False),
    sa.Column("steps", sa.LargeBinary, nullable=False),
    sa.Column("decided_ms", BIG, nullable=False),
    sa.Index("usage_record_endpoint", "endpoint_id", "usage_ms"),
    sa.Index("usage_record_chain", "chain_id", "usage_ms"),
)
"""One row a decided event. `steps` is packed: the charges, as the outcome has each step."""

totals = sa.Table(
    "usage_total",
    ledger,
    sa.Column("chain_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("endpoint_id", ID, primary_key=True),
    sa.Column("network_id", ID, primary_key=True),
    sa.Column("service", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("step", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("currency", sa.String(3), primary_key=True),
    sa.Column("records", BIG, nullable=False),
    sa.Column("quantity", BIG, nullable=False),
    sa.Column("benefit", BIG, nullable=False),
    sa.Column("uncovered", BIG, nullable=False),
    sa.Column("amount", BIG, nullable=False),
)
"""Sums of charges by UTC day (days since 1970), endpoint, network, service and step."""

refunds = sa.Table(
    "refund",
    ledger,
    sa.Column("cell", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("sequence", BIG, primary_key=True, autoincrement=False),
    sa.Column("operation", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("usage_record_id", ID, nullable=False, index=True),
    sa.Column("endpoint_id", ID, nullable=False),
    sa.Column("chain_id", sa.Integer, nullable=False),
    sa.Column("program_id", sa.String(24), nullable=False),
    sa.Column("quantity", BIG, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("actor", sa.String(64), nullable=False),
    sa.Column("account_id", ID, nullable=False),
    sa.Column("steps", sa.LargeBinary, nullable=False),
    sa.Column("decided_ms", BIG, nullable=False),
    sa.Index("refund_endpoint", "endpoint_id", "decided_ms"),
    sa.Index("refund_chain", "chain_id", "decided_ms"),
)
"""One row a refund. `steps` is packed: for each step units, amount, and of its draws bucket, back, lapsed; and covered
units."""

refusals = sa.Table(
    "refusal_total",
    ledger,
    sa.Column("chain_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("endpoint_id", ID, primary_key=True),
    sa.Column("service", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("reason", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("step", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("records", BIG, nullable=False),
    sa.Column("quantity", BIG, nullable=False),
)

requests = sa.Table(
    "answered_request",
    ledger,
    sa.Column("id_digest", sa.LargeBinary(16), primary_key=True),
    sa.Column("body_digest", sa.LargeBinary(8), nullable=False),
    sa.Column("cell", sa.Integer, nullable=False),
    sa.Column("sequence", BIG, nullable=False),
    sa.Column("operation", sa.Integer, nullable=False),
    sa.Column("answer", BIG, nullable=False),
    sa.Column("decided_ms", BIG, nullable=False),
)
"""Requests that were answered, by the digest of their id; `answer` is what is left after a top-up or refill."""

entries = sa.Table(
    "ledger_entry",
    ledger,
    sa.Column("cell", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("sequence", BIG, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("balance_id", sa.String(100), nullable=False),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("change", BIG, nullable=False),
    sa.Column("cause_id", sa.String(100), nullable=False),
    sa.Column("created_ms", BIG, nullable=False),
    sa.Index("ledger_entry_balance", "balance_id", "sequence", "number"),
)

balances = sa.Table(
    "balance",
    ledger,
    sa.Column("id", sa.String(100), primary_key=True),
    sa.Column("holder_id", ID, nullable=False, index=True),
    sa.Column("remaining", BIG, nullable=False),
)
"""Sum of the ledger entries of each balance."""

images = sa.Table(
    "image",
    ledger,
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("cell", sa.Integer, primary_key=True, autoincrement=False, index=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)
"""Holders (`h:...`), leases (`l:...`) and sessions (`s:...`) as the last folded segment left them: what a rebuild
loads. An account above enterprises has a holder in each cell that uses it."""

payment_methods = sa.Table(
    "payment_method",
    ledger,
    sa.Column("id", ID, primary_key=True),
    sa.Column("account_id", ID, nullable=False),
    sa.Column("owner_path", sa.Text, nullable=False, index=True),
    sa.Column("provider", sa.String(32), nullable=False),
    sa.Column("token", sa.String(128), nullable=False),
    sa.Column("customer", sa.String(128), nullable=False),
    sa.Column("display_name", sa.String(100), nullable=False),
    sa.Column("created_ms", BIG, nullable=False),
    sa.Column("updated_ms", BIG, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
)

refill_rules = sa.Table(
    "auto_refill_rule",
    ledger,
    sa.Column("id", ID, primary_key=True),
    sa.Column("endpoint_id", ID, nullable=False),
    sa.Column("account_id", ID, nullable=False),
    sa.Column("owner_path", sa.Text, nullable=False, index=True),
    sa.Column("balance_id", sa.String(100), nullable=False, unique=True),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("threshold_micros", BIG, nullable=False),
    sa.Column("amount_micros", BIG, nullable=False),
    sa.Column("threshold_quantity", BIG, nullable=False),
    sa.Column("refill_quantity", BIG, nullable=False),
    sa.Column("refill_validity_ms", BIG, nullable=False),
    sa.Column("refill_maximum", BIG, nullable=False),
    sa.Column("source", sa.SmallInteger, nullable=False),
    sa.Column("method_id", ID, nullable=False, index=True),
    sa.Column("cool_off_ms", BIG, nullable=False),
    sa.Column("monthly_count_max", sa.Integer, nullable=False),
    sa.Column("monthly_amount_max_micros", BIG, nullable=False),
    sa.Column("stop_reason", sa.String(64), nullable=False),
    sa.Column("in_flight", sa.Boolean, nullable=False),
    sa.Column("declines", sa.Integer, nullable=False),
    sa.Column("not_before_ms", BIG, nullable=False),
    sa.Column("month", sa.Integer, nullable=False),
    sa.Column("month_count", sa.Integer, nullable=False),
    sa.Column("month_micros", BIG, nullable=False),
    sa.Column("last_payment_id", ID, nullable=False),
    sa.Column("last_attempt_ms", BIG, nullable=False),
    sa.Column("created_ms", BIG, nullable=False),
    sa.Column("updated_ms", BIG, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
)

payments = sa.Table(
    "payment",
    ledger,
    sa.Column("id", ID, primary_key=True),
    sa.Column("account_id", ID, nullable=False),
    sa.Column("owner_path", sa.Text, nullable=False, index=True),
    sa.Column("endpoint_id", ID, nullable=False),
    sa.Column("balance_id", sa.String(100), nullable=False),
    sa.Column("refill_quantity", BIG, nullable=False),
    sa.Column("refill_validity_ms", BIG, nullable=False),
    sa.Column("refill_maximum", BIG, nullable=False),
    sa.Column("redirected_from", sa.String(100), nullable=False),
    sa.Column("rule_id", ID, nullable=False, index=True),
    sa.Column("open_rule_id", ID, unique=True),
    sa.Column("method_id", ID, nullable=False, index=True),
    sa.Column("amount_micros", BIG, nullable=False),
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("reference", sa.String(255), nullable=False),
    sa.Column("decline_code", sa.String(64), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_ms", BIG, nullable=False, index=True),
    sa.Column("created_ms", BIG, nullable=False),
    sa.Column("updated_ms", BIG, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
)
"""Payments; `next_ms` is 0 once one is settled. Of a rule at most one is open: `open_rule_id` is unique."""

wallet_requests = requests_table(ledger, "wallet_request")
"""Answered requests that change payment methods, rules and payments."""

sandbox_charges = sa.Table(
    "sandbox_charge",
    ledger,
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("method_id", ID, nullable=False),
    sa.Column("token", sa.String(255), nullable=False),
    sa.Column("amount_micros", BIG, nullable=False),
    sa.Column("currency", sa.String(3), nullable=False),
    sa.Column("code", sa.String(64), nullable=False),
    sa.Column("reference", ID, nullable=False),
    sa.Column("created_ms", BIG, nullable=False),
    sa.Index("sandbox_charge_method", "method_id"),
)

escrows = sa.Table(
    "escrow",
    ledger,
    sa.Column("account_id", ID, primary_key=True),
    sa.Column("kind", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("limit_total", BIG, nullable=False),
    sa.Column("limit_version", BIG, nullable=False),
    sa.Column("free", BIG, nullable=False),
)
"""What of an account's money (kind 1; its limit is 0, top-ups come back from its cell) or credit limit (2) is free.

Not folded, but made anew from the cells if it is lost: `free = limit_total - leased + returned`, over all cells."""

escrow_leases = sa.Table(
    "escrow_lease",
    ledger,
    sa.Column("account_id", ID, primary_key=True),
    sa.Column("kind", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("cell", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("leased", BIG, nullable=False),
    sa.Column("returned", BIG, nullable=False),
)
"""All that was ever leased to a cell, and returned by it, in micros."""

events = sa.Table(
    "event",
    ledger,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("created_ms", BIG, nullable=False),
    sa.Column("type", sa.String(64), nullable=False),
    sa.Column("account_id", ID, nullable=False),
    sa.Column("owner_path", sa.Text, nullable=False),
    sa.Column("resource_type", sa.String(64), nullable=False),
    sa.Column("resource_id", sa.String(100), nullable=False),
    sa.Column("payload", sa.JSON, nullable=False),
    sa.Index("event_owner", "owner_path", "created_ms"),
    sa.Index("event_resource", "resource_id", "created_ms"),
)
"""What happened to balances and endpoints, folded from the journal like everything else."""

audit = audit_table(ledger)
"""Who topped up what, folded from the journal like everything else."""
