"""What happened to wallets, as people hear of it."""

from dataclasses import dataclass

LOW = "wallet.low"
CHARGED = "wallet.charged"
FAILED = "wallet.failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletEvent:
    """One thing that happened to the money of an account or an endpoint.

    Attributes:
        owner_path: path of the account, from the OPERATOR down.
        reason: a decline code, or why a rule stopped.
    """

    id: str
    type: str
    account_id: str
    owner_path: tuple[str, ...]
    endpoint_id: str
    rule_id: str
    payment_id: str
    amount_micros: int
    currency: str
    reason: str = ""
    created_ms: int
