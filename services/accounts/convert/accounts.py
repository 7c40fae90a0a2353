"""Accounts on the wire."""

from collections.abc import Callable, Mapping
from typing import Any

from meterline.accounts.v1 import accounts_pb2
from services.accounts.convert.companies import company_from_proto
from services.accounts.convert.values import changes_of, money_from_proto, money_to_proto, timestamp
from services.accounts.domain.accounts import IMMUTABLE, UTC, Account, AccountState
from services.accounts.ports import AccountFilter
from services.accounts.usecases.creation import Wanted
from services.common.identity import AccountKind, Principal
from services.common.money import Money


def account_to_proto(account: Account, caller: Principal) -> accounts_pb2.Account:
    """Write an account as the caller sees it: what is above the caller's own account is left out."""
    path = account.path if caller.service else account.path[account.path.index(caller.account_id) :]
    message = accounts_pb2.Account(
        id=account.id,
        kind=accounts_pb2.AccountKind.ValueType(account.kind),
        parent_id=path[-2] if len(path) > 1 else "",
        company_id=account.company_id,
        name=account.name,
        state=accounts_pb2.AccountState.ValueType(account.state),
        suspension_cause=accounts_pb2.SuspensionCause.ValueType(account.suspension_cause),
        path=path,
        currency=account.currency,
        billing_cycle_day=account.billing_cycle_day,
        time_zone=account.time_zone,
        external_account_number=account.external_account_number,
        notes=account.notes,
        application_types=account.application_types,
        device_types=account.device_types,
        create_time=timestamp(account.created_ms),
        update_time=timestamp(account.updated_ms),
        etag=str(account.version),
    )
    if account.credit_limit is not None:
        message.credit_limit.CopyFrom(money_to_proto(account.credit_limit))
    return message


def wanted_from_proto(request: accounts_pb2.CreateAccountRequest) -> Wanted:
    """Read what a caller asks to create."""
    return Wanted(
        parent_id=request.account.parent_id,
        account=_account_from_proto(request.account),
        company=company_from_proto(request.company) if request.HasField("company") else None,
        skip_defaults=request.skip_defaults,
        activate=request.activate,
    )


def _account_from_proto(message: accounts_pb2.Account) -> Account:
    """Read what a caller describes; its place in the tree and its state are not a caller's to state."""
    return Account(
        kind=AccountKind(message.kind),
        company_id=message.company_id,
        name=message.name,
        currency=message.currency,
        credit_limit=_credit_limit(message),
        billing_cycle_day=_billing_cycle_day(message),
        time_zone=message.time_zone or UTC,
        external_account_number=message.external_account_number,
        notes=message.notes,
        application_types=tuple(message.application_types),
        device_types=tuple(message.device_types),
    )


def _credit_limit(message: accounts_pb2.Account) -> Money | None:
    if not message.HasField("credit_limit"):
        return None
    return money_from_proto(message.credit_limit, "account.credit_limit")


def _billing_cycle_day(message: accounts_pb2.Account) -> int:
    return message.billing_cycle_day or 1


_FIELDS: Mapping[str, Callable[[accounts_pb2.Account], Any]] = {
    "kind": lambda message: AccountKind(message.kind),
    "parent_id": lambda message: message.parent_id,
    "company_id": lambda message: message.company_id,
    "name": lambda message: message.name,
    "currency": lambda message: message.currency,
    "credit_limit": _credit_limit,
    "billing_cycle_day": _billing_cycle_day,
    "time_zone": lambda message: message.time_zone or UTC,
    "external_account_number": lambda message: message.external_account_number,
    "notes": lambda message: message.notes,
    "application_types": lambda message: tuple(message.application_types),
    "device_types": lambda message: tuple(message.device_types),
}


def account_changes(request: accounts_pb2.UpdateAccountRequest) -> dict[str, Any]:
    """Read the new values of an update by field."""
    return changes_of(request.account, request.update_mask, _FIELDS, IMMUTABLE)


def filter_from_proto(request: accounts_pb2.ListAccountsRequest) -> AccountFilter:
    """Read which accounts a list asks for."""
    return AccountFilter(
        parent_id=request.parent_id,
        ancestor_id=request.ancestor_id,
        kind=AccountKind(request.kind) if request.kind else None,
        state=AccountState(request.state) if request.state else None,
        query=request.query,
    )
