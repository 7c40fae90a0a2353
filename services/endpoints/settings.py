"""What the service is told by its environment."""

from pydantic import Field

from services.runtime.settings import StoreSettings, service_alias

SERVICE = "endpoints"


class Settings(StoreSettings):
    """Settings of endpoints."""

    listen: str = Field("127.0.0.1:7003", validation_alias=service_alias(SERVICE, "listen"))
    """host:port on which gRPC is served."""
    database_url: str = Field(
        "sqlite+aiosqlite:///.meterline/endpoints.sqlite", validation_alias=service_alias(SERVICE, "database_url")
    )
    """SQLAlchemy URL: `sqlite+aiosqlite:///path` or `postgresql+asyncpg://user:password@host/name`."""
    rating_cells: int = Field(1, ge=1, validation_alias=service_alias("rating", "cells"))
    """Cells of rating; what they share cannot hold add-ons."""
    metrics_listen: str = Field("", validation_alias=service_alias(SERVICE, "metrics_listen"))
    """host:port of the Prometheus endpoint; empty is off."""
