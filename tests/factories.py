"""Small builders of messages that are right as they are; name what the test is about, leave the rest."""

import itertools
from collections.abc import Sequence
from typing import Any

from google.type.money_pb2 import Money

from meterline.accounts.v1 import accounts_pb2, companies_pb2, identity_pb2

_numbers = itertools.count(1)


def address(**fields: str) -> companies_pb2.Address:
    """A registered address in Brussels."""
    return companies_pb2.Address(
        **{"country": "BE", "city": "Brussels", "street": "Rue Lebeau", "number": "4", **fields}
    )


def company(**fields: Any) -> companies_pb2.Company:
    """A customer with all that is required."""
    return companies_pb2.Company(
        **{
            "name": f"Company {next(_numbers)}",
            "type": companies_pb2.COMPANY_TYPE_CUSTOMER,
            "phone_number": "+3225476111",
            "address": address(),
            **fields,
        }
    )


def account(kind: accounts_pb2.AccountKind.ValueType, parent_id: str, **fields: Any) -> accounts_pb2.Account:
    """An account with a name of its own, in its parent's currency."""
    name = accounts_pb2.AccountKind.Name(kind).removeprefix("ACCOUNT_KIND_").capitalize()
    return accounts_pb2.Account(**{"kind": kind, "parent_id": parent_id, "name": f"{name} {next(_numbers)}", **fields})


def create_account(
    kind: accounts_pb2.AccountKind.ValueType, parent_id: str, *, activate: bool = True, **fields: Any
) -> accounts_pb2.CreateAccountRequest:
    """Asks for an ACTIVE account, with a new company unless it is a SUB_ACCOUNT or one is named."""
    needs_company = kind != accounts_pb2.ACCOUNT_KIND_SUB_ACCOUNT and "company_id" not in fields
    return accounts_pb2.CreateAccountRequest(
        account=account(kind, parent_id, **fields),
        company=company() if needs_company else None,
        activate=activate,
    )


def api_key(account_id: str, role: identity_pb2.Role.ValueType = identity_pb2.ROLE_ADMIN) -> identity_pb2.ApiKey:
    """A key that stays."""
    return identity_pb2.ApiKey(account_id=account_id, name=f"key {next(_numbers)}", role=role)


def money(units: int, currency: str = "EUR", nanos: int = 0) -> Money:
    """An amount."""
    return Money(currency_code=currency, units=units, nanos=nanos)


def update_account(account_id: str, paths: Sequence[str] = (), **fields: Any) -> accounts_pb2.UpdateAccountRequest:
    """Asks to change an account; the paths are the fields unless stated."""
    request = accounts_pb2.UpdateAccountRequest(account=accounts_pb2.Account(id=account_id, **fields))
    request.update_mask.paths.extend(paths or fields)
    return request
