"""What tests of rating share."""

import pytest


@pytest.fixture
def stores(valkey_url: str, sqlite_url: str) -> tuple[str, str]:
    """Where balances are, and where journal and books are."""
    return valkey_url, sqlite_url
