"""The tables. What is queried has a column of its own; paths are written so that a prefix selects a subtree."""

import sqlalchemy as sa

from services.runtime.writes import runtime_tables

metadata = sa.MetaData()
runtime = runtime_tables(metadata)

ID = sa.String(64)

sims = sa.Table(
    "sim",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("iccid", sa.String(20), nullable=False, unique=True),
    sa.Column("imsi", sa.String(15), nullable=False, unique=True),
    sa.Column("msisdn", sa.String(15), unique=True),
    sa.Column("esim", sa.Boolean, nullable=False),
    sa.Column("account_id", ID, nullable=False),
    sa.Column("enterprise_id", ID, nullable=False),
    sa.Column("owner_path", sa.Text, nullable=False, index=True),
    sa.Column("importer_account_id", ID, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("updated_ms", sa.BigInteger, nullable=False),
    sa.Index("ix_sim_account_id", "account_id", "id"),
    sa.Index("ix_sim_enterprise_id", "enterprise_id", "id"),
)
"""What a SIM is linked to, and so its status, is read from the endpoint that has it."""

endpoints = sa.Table(
    "endpoint",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("account_id", ID, nullable=False),
    sa.Column("enterprise_id", ID, nullable=False),
    sa.Column("owner_path", sa.Text, nullable=False, index=True),
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
    sa.Index("ix_endpoint_account_id", "account_id", "id"),
    sa.Index("ix_endpoint_enterprise_id", "enterprise_id", "id"),
)
"""`sim_id` is unique: a SIM is linked to at most one endpoint."""

tags = sa.Table(
    "endpoint_tag",
    metadata,
    sa.Column("tag", sa.String(64), primary_key=True),
    sa.Column("endpoint_id", ID, sa.ForeignKey("endpoint.id"), primary_key=True, index=True),
)
"""The index by which endpoints are found by tag."""

assignments = sa.Table(
    "assignment",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("plan_id", ID, nullable=False),
    sa.Column("plan_version", sa.Integer, nullable=False),
    sa.Column("endpoint_id", ID, sa.ForeignKey("endpoint.id")),
    sa.Column("account_id", ID, nullable=False),
    sa.Column("enterprise_id", ID, nullable=False),
    sa.Column("owner_path", sa.Text, nullable=False, index=True),
    sa.Column("role", sa.SmallInteger, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("assigned_ms", sa.BigInteger, nullable=False),
    sa.Column("expires_ms", sa.BigInteger),
    sa.Column("removed_ms", sa.BigInteger),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("pool_account_id", ID),
    sa.Index("ix_assignment_endpoint_id", "endpoint_id", "id"),
    sa.Index("ix_assignment_account_id", "account_id", "endpoint_id", "id"),
    sa.Index("ix_assignment_enterprise_id", "enterprise_id", "id"),
)

pool_members = sa.Table(
    "pool_member",
    metadata,
    sa.Column("pool_account_id", ID, primary_key=True),
    sa.Column("plan_id", ID, primary_key=True),
    sa.Column("plan_version", sa.Integer, primary_key=True),
    sa.Column("stretch", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("members", sa.BigInteger, nullable=False),
    sa.Column("sum_ms", sa.BigInteger, nullable=False),
    sa.Column("since_ms", sa.BigInteger, nullable=False),
    sa.Column("changes", sa.BigInteger, nullable=False),
)
"""Endpoints that share a plan's volumes: all (stretch 0), and by the quarter of an hour in which they joined."""

_base_in_force = sa.and_(assignments.c.role == sa.literal_column("1"), assignments.c.removed_ms.is_(None))
sa.Index(
    "ux_assignment_endpoint_base",
    assignments.c.endpoint_id,
    unique=True,
    sqlite_where=_base_in_force,
    postgresql_where=_base_in_force,
)
"""At most one base plan is in force for an endpoint (R065)."""

_account_base_in_force = sa.and_(_base_in_force, assignments.c.endpoint_id.is_(None))
sa.Index(
    "ux_assignment_account_base",
    assignments.c.account_id,
    unique=True,
    sqlite_where=_account_base_in_force,
    postgresql_where=_account_base_in_force,
)
"""At most one base plan is in force for an account."""
