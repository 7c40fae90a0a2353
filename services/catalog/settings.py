"""What the service is told by its environment."""

from pydantic import Field

from services.runtime.settings import StoreSettings, service_alias

SERVICE = "catalog"


class Settings(StoreSettings):
    """Settings of catalog."""

    listen: str = Field("127.0.0.1:7002", validation_alias=service_alias(SERVICE, "listen"))
    """host:port on which gRPC is served."""
    database_url: str = Field(
        "sqlite+aiosqlite:///.meterline/catalog.sqlite", validation_alias=service_alias(SERVICE, "database_url")
    )
    """SQLAlchemy URL: `sqlite+aiosqlite:///path` or `postgresql+asyncpg://user:password@host/name`."""
    metrics_listen: str = Field("", validation_alias=service_alias(SERVICE, "metrics_listen"))
    """host:port of the Prometheus endpoint; empty is off."""
