"""Verbs of companies [002]."""

from dataclasses import replace
from operator import attrgetter

from services.accounts.domain.companies import REQUIRED, Company
from services.accounts.ports import Store
from services.accounts.usecases.changes import Changes, changed, require_none
from services.accounts.usecases.formats import (
    plain_phone,
    plain_vat,
    wrong_country,
    wrong_email,
    wrong_phone,
    wrong_vat,
)
from services.common.errors import FieldViolation, PermissionDeniedError
from services.common.etags import require_etag
from services.common.identity import READERS, WRITERS, AccountKind, Principal
from services.common.ids import new_id
from services.common.pages import Page, PageRequest

PROVIDERS = (AccountKind.OPERATOR, AccountKind.RESELLER)
"""The accounts on the provider's side."""


async def create_company(store: Store, caller: Principal, draft: Company, now_ms: int) -> Company:
    """Create a company in the caller's context.

    Raises:
        PermissionDeniedError: the caller is neither OPERATOR nor RESELLER, or may only read.
        InvalidArgumentError: names each field that is missing or wrong.
    """
    caller.require_role(*WRITERS)
    caller.require_kind(*PROVIDERS)
    good = _good(draft)
    company = replace(
        good,
        id=new_id("com", at_ms=now_ms),
        owner_path=caller.account_path,
        created_ms=now_ms,
        updated_ms=now_ms,
        version=1,
    )
    await store.companies.add(company)
    return company


async def get_company(store: Store, caller: Principal, company_id: str) -> Company:
    """Return a company that the caller sees."""
    caller.require_role(*READERS)
    return await store.companies.get(caller, company_id)


async def list_companies(store: Store, caller: Principal, query: str, request: PageRequest) -> Page[Company]:
    """Return a page of the companies that the caller sees, oldest first."""
    caller.require_role(*READERS)
    return await store.companies.page(caller, query, request)


async def update_company(
    store: Store, caller: Principal, company_id: str, changes: Changes, etag: str, now_ms: int
) -> Company:
    """Change a company that the caller's account, or one below it, created.

    Raises:
        PermissionDeniedError: COMPANY_OF_ANOTHER, the caller only belongs to it.
        InvalidArgumentError: names each field that would be missing or wrong.
        AbortedError: ETAG_MISMATCH.
    """
    caller.require_role(*WRITERS)
    company = await store.companies.lock(caller, company_id)
    caller.require_kind(*PROVIDERS)
    if not caller.sees(company.owner_path):
        raise PermissionDeniedError(
            "COMPANY_OF_ANOTHER",
            f"Company {company.id} was created by an account above this one; ask it for the change.",
            resource=("company", company.id),
        )
    require_etag(company.version, etag)
    after = _good(changed(company, changes))
    if after == company:
        return company
    after = replace(after, updated_ms=now_ms, version=company.version + 1)
    await store.companies.replace(company, after)
    return after


def _good(company: Company) -> Company:
    """The company with its numbers in plain form, or INVALID_ARGUMENT that names what is missing or wrong."""
    wrong = {path: "is required" for path in REQUIRED if not str(attrgetter(path)(company)).strip()}
    missing = set(wrong)
    if company.address.country:
        wrong["address.country"] = wrong_country(company.address.country)
    if company.phone_number:
        wrong["phone_number"] = wrong_phone(company.phone_number)
    if company.email:
        wrong["email"] = wrong_email(company.email)
    if company.vat_number:
        wrong["vat_number"] = wrong_vat(company.vat_number, company.address.country)
    require_none([
        FieldViolation(f"company.{path}", what, "FIELD_REQUIRED" if path in missing else "FIELD_INVALID")
        for path, what in wrong.items()
        if what
    ])  # fmt: skip
    return replace(
        company,
        phone_number=plain_phone(company.phone_number),
        vat_number=plain_vat(company.vat_number) if company.vat_number else "",
    )
