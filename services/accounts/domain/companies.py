"""Companies: the legal bodies below which everything billable hangs [002]."""

from dataclasses import dataclass, field
from enum import IntEnum


class CompanyType(IntEnum):
    """What kind of body a company is; numbers as in the contract."""

    OPERATOR = 1
    RESELLER = 2
    CUSTOMER = 3
    PUBLIC = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A postal address.

    Attributes:
        country: ISO 3166-1 alpha-2 code, upper case.
        city: its name.
        street: its name.
        number: house number.
        postal_code: or empty.
        region: state, province or region, or empty.
    """

    country: str = ""
    city: str = ""
    street: str = ""
    number: str = ""
    postal_code: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """A company.

    Attributes:
        id: `com_` and 26 characters; empty before it is stored.
        owner_path: path of the account in whose context it was created, from the OPERATOR down.
        name: legal name.
        type: what kind of body it is.
        phone_number: E.164.
        address: where it is registered.
        email: or empty.
        homepage: or empty.
        registration_number: in the company register, or empty.
        vat_number: with its country prefix, or empty.
        tax_number: or empty.
        created_ms: milliseconds since 1970.
        updated_ms: milliseconds since 1970.
        version: counts the changes, from 1; the etag.
    """

    id: str = ""
    owner_path: tuple[str, ...] = ()
    name: str = ""
    type: CompanyType
    phone_number: str = ""
    address: Address = field(default_factory=Address)
    email: str = ""
    homepage: str = ""
    registration_number: str = ""
    vat_number: str = ""
    tax_number: str = ""
    created_ms: int = 0
    updated_ms: int = 0
    version: int = 1


REQUIRED = (
    "name",
    "phone_number",
    "address.country",
    "address.city",
    "address.street",
    "address.number",
)
"""What each company has (R144), beside its type."""
