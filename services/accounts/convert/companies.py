"""Companies on the wire."""

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

from meterline.accounts.v1 import companies_pb2
from services.accounts.convert.values import changes_of, timestamp
from services.accounts.domain.companies import Address, Company, CompanyType

_ADDRESS = ("country", "city", "street", "number", "postal_code", "region")
_TEXTS = ("name", "phone_number", "email", "homepage", "registration_number", "vat_number", "tax_number")


def company_to_proto(company: Company) -> companies_pb2.Company:
    """Write a company."""
    return companies_pb2.Company(
        id=company.id,
        type=companies_pb2.CompanyType.ValueType(company.type),
        address=companies_pb2.Address(**{name: getattr(company.address, name) for name in _ADDRESS}),
        owner_account_id=company.owner_path[-1],
        create_time=timestamp(company.created_ms),
        update_time=timestamp(company.updated_ms),
        etag=str(company.version),
        **{name: getattr(company, name) for name in _TEXTS},
    )


def company_from_proto(message: companies_pb2.Company) -> Company:
    """Read what a caller describes."""
    return Company(
        type=CompanyType(message.type),
        address=_address(message),
        **{name: getattr(message, name) for name in _TEXTS},
    )


def _address(message: companies_pb2.Company) -> Address:
    return Address(**{name: getattr(message.address, name) for name in _ADDRESS})


_FIELDS: Mapping[str, Callable[[companies_pb2.Company], Any]] = {
    **{name: attrgetter(name) for name in _TEXTS},
    "type": lambda message: CompanyType(message.type),
    "address": _address,
    **{f"address.{name}": attrgetter(f"address.{name}") for name in _ADDRESS},
}


def company_changes(request: companies_pb2.UpdateCompanyRequest) -> dict[str, Any]:
    """Read the new values of an update by field."""
    return changes_of(request.company, request.update_mask, _FIELDS)
