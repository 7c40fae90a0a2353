"""API keys: a random secret of which only a hash is kept."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

from services.common.identity import Role

SECRET_BYTES = 32
_FORM = re.compile(r"mk_(?P<id>[0-9a-hjkmnp-tv-z]{26})_(?P<secret>[A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An API key, without its secret.

    Attributes:
        id: `key_` and 26 characters.
        owner_path: path of the account in whose context calls with it run, from the OPERATOR down.
        name: what it is for.
        role: what it may do.
        expires_ms: when it stops working, milliseconds since 1970; None if it does not.
        revoked_ms: when it was revoked, milliseconds since 1970; None while it works.
        created_ms: milliseconds since 1970.
        bootstrap: whether the environment of the installation brought it.
    """

    id: str
    owner_path: tuple[str, ...]
    name: str
    role: Role
    expires_ms: int | None = None
    revoked_ms: int | None = None
    created_ms: int = 0
    bootstrap: bool = False

    @property
    def account_id(self) -> str:
        """The account in whose context calls with it run."""
        return self.owner_path[-1]

    def works(self, now_ms: int) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_ms is None and (self.expires_ms is None or now_ms < self.expires_ms)


@dataclass(frozen=True, slots=True)
class Credential:
    """What a client sends: `mk_<26 characters of the key id>_<43 characters of secret>`.

    Attributes:
        key_id: `key_` and 26 characters.
        secret: 256 random bits, base64url without padding.
    """

    key_id: str
    secret: str

    @property
    def text(self) -> str:
        """As a client sends it."""
        return f"mk_{self.key_id.removeprefix('key_')}_{self.secret}"

    @property
    def digest(self) -> bytes:
        """What is kept of the secret: SHA-256, which is enough for one that nobody can guess."""
        return hashlib.sha256(self.secret.encode()).digest()

    def opens(self, digest: bytes) -> bool:
        """Whether this is the secret with that digest, in a time that does not tell."""
        return hmac.compare_digest(self.digest, digest)


def new_credential(key_id: str) -> Credential:
    """Make a credential with a fresh secret."""
    return Credential(key_id, secrets.token_urlsafe(SECRET_BYTES))


def read_credential(text: str) -> Credential | None:
    """Read a credential; None if it does not have the form of one."""
    found = _FORM.fullmatch(text)
    return Credential(f"key_{found['id']}", found["secret"]) if found else None
