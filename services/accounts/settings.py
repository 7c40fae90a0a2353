"""What the service is told by its environment."""

from pydantic import Field, SecretStr

from services.runtime.settings import StoreSettings, service_alias

SERVICE = "accounts"


class Settings(StoreSettings):
    """Settings of accounts."""

    listen: str = Field("127.0.0.1:7001", validation_alias=service_alias(SERVICE, "listen"))
    """host:port on which gRPC is served."""
    database_url: str = Field(
        "sqlite+aiosqlite:///.meterline/accounts.sqlite", validation_alias=service_alias(SERVICE, "database_url")
    )
    """SQLAlchemy URL: `sqlite+aiosqlite:///path` or `postgresql+asyncpg://user:password@host/name`."""
    metrics_listen: str = Field("", validation_alias=service_alias(SERVICE, "metrics_listen"))
    """host:port of the Prometheus endpoint; empty is off."""
    bootstrap_operator_key: SecretStr = SecretStr("")
    """Credential of the operator's first API key, `mk_<26 characters>_<43 characters>`; another one replaces it."""
    operator_name: str = Field("Operator", min_length=1, max_length=200)
    """Name of the OPERATOR account and its company, used at the first start."""
    operator_currency: str = "EUR"
    """ISO 4217 code of the OPERATOR account's currency, used at the first start."""
