"""What the gateway is told by its environment."""

from pydantic import Field, SecretStr

from services.runtime.settings import CommonSettings, service_alias

SERVICE = "gateway"
SERVICES = ("accounts", "catalog", "endpoints", "rating")


class Settings(CommonSettings):
    """Settings of the gateway."""

    service_secret: SecretStr = SecretStr("")
    """Not used: the gateway signs nothing, it passes on the credential of its caller."""
    listen: str = Field(default="127.0.0.1:8080", validation_alias=service_alias(SERVICE, "listen"))
    """host:port on which HTTP is served."""
    body_bytes_max: int = Field(
        default=4 * 1024 * 1024, gt=0, validation_alias=service_alias(SERVICE, "body_bytes_max")
    )
    """Longest body of a request."""
    head_bytes_max: int = Field(default=32 * 1024, gt=0, validation_alias=service_alias(SERVICE, "head_bytes_max"))
    """Longest request line with headers."""
    deadline_ms: int = Field(default=30_000, gt=0, validation_alias=service_alias(SERVICE, "deadline_ms"))
    """How long a request may take; the caller may ask for less with `X-Request-Timeout`."""
    concurrency_max: int = Field(default=1024, gt=0, validation_alias=service_alias(SERVICE, "concurrency_max"))
    """Requests in work at once; more are refused."""
    rate_per_s: float = Field(default=10_000, ge=0, validation_alias=service_alias(SERVICE, "rate_per_s"))
    """Requests a second that one credential may make for long; 0 does not limit."""
    rate_burst: int = Field(default=20_000, gt=0, validation_alias=service_alias(SERVICE, "rate_burst"))
    """Requests that one credential may make at once."""
    cors_origins: list[str] = Field(default=[], validation_alias=service_alias(SERVICE, "cors_origins"))
    """Origins whose pages may call, as a JSON list; empty is none."""

    def address(self, service: str) -> str:
        """host:port of a service."""
        address: str = getattr(self, f"{service}_address")
        return address
