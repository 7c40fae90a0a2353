"""Settings of rating."""

from typing import Literal

from pydantic import Field, SecretStr

from services.runtime.settings import StoreSettings, service_alias


class RatingSettings(StoreSettings):
    """What a rating process is told."""

    listen: str = Field("127.0.0.1:7004", validation_alias=service_alias("rating", "listen"))
    """host:port on which gRPC is served."""
    database_url: str = Field(validation_alias=service_alias("rating", "database_url"))
    """The ledger: SQLAlchemy URL."""
    journal_url: str = Field(validation_alias=service_alias("rating", "journal_url"))
    """The journal: SQLAlchemy URL; another database or schema than the ledger's."""
    metrics_listen: str = Field("", validation_alias=service_alias("rating", "metrics_listen"))
    """host:port of the Prometheus endpoint; empty is off."""
    cells: int = Field(1, ge=1, le=1024, validation_alias=service_alias("rating", "cells"))
    """Cells that enterprises are spread over; fixed at the first start, the same for all processes."""
    valkey_url: str = "unix:///tmp/valkey.sock"
    """Where balances live: `unix:///path`, `valkey://host:port/0`, or `valkey+cluster://host:port,host:port`."""
    payment_provider: Literal["sandbox", "stripe"] = Field(
        "sandbox", validation_alias=service_alias("rating", "payment_provider")
    )
    """Who collects money: the sandbox, which pretends, or Stripe."""
    stripe_api_key: SecretStr = Field(SecretStr(""), validation_alias=service_alias("rating", "stripe_api_key"))
    """Secret or restricted key of the account at Stripe."""
    stripe_base_url: str = Field("https://api.stripe.com", validation_alias=service_alias("rating", "stripe_base_url"))
    """Where Stripe's API is; another one for tests."""
