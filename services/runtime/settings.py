"""Settings come from the environment: `METERLINE_<NAME>` for all, `METERLINE_<SERVICE>_<NAME>` for one."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class CommonSettings(BaseSettings):
    """What every process of Meterline is told."""

    model_config = SettingsConfigDict(
        env_prefix="METERLINE_",
        extra="ignore",
        hide_input_in_errors=True,  # a wrong setting is told of without the secrets beside it
    )

    service_secret: SecretStr = Field(min_length=32)
    """Shared secret that signs calls between services; at least 32 characters."""
    accounts_address: str = "127.0.0.1:7001"
    """host:port of accounts."""
    catalog_address: str = "127.0.0.1:7002"
    """host:port of catalog."""
    endpoints_address: str = "127.0.0.1:7003"
    """host:port of endpoints."""
    rating_address: str = "127.0.0.1:7004"
    """host:port of rating."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""
    log_format: str = "json"
    """json for machines, console for people."""


class StoreSettings(CommonSettings):
    """What a service with a database is told. Subclasses read `METERLINE_<SERVICE>_...` through their aliases."""

    listen: str
    """host:port on which gRPC is served."""
    database_url: str
    """SQLAlchemy URL: `sqlite+aiosqlite:///path` or `postgresql+asyncpg://user:password@host/name`."""
    metrics_listen: str = ""
    """host:port of the Prometheus endpoint; empty is off."""


def service_alias(service: str, name: str) -> str:
    """Return the environment variable of a service's own setting."""
    return f"METERLINE_{service.upper()}_{name.upper()}"
