"""CompanyService."""
# ruff: noqa: N802 - methods are named as in the contract

from meterline.accounts.v1 import companies_pb2
from services.accounts.api.desk import Desk
from services.accounts.convert.companies import company_changes, company_from_proto, company_to_proto
from services.accounts.domain.companies import Company
from services.accounts.usecases import companies
from services.common.identity import Principal
from services.common.pages import page_request


def _answer(company: Company, _: Principal) -> companies_pb2.Company:
    return company_to_proto(company)


class CompanyServicer:
    """Keeps companies."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def CreateCompany(self, request: companies_pb2.CreateCompanyRequest, _: object) -> companies_pb2.Company:
        """Create a company."""
        draft = company_from_proto(request.company)
        return await self._desk.write(
            request,
            companies_pb2.Company,
            lambda store, caller, now_ms: companies.create_company(store, caller, draft, now_ms),
            _answer,
        )

    async def GetCompany(self, request: companies_pb2.GetCompanyRequest, _: object) -> companies_pb2.Company:
        """Return a company."""
        return company_to_proto(
            await self._desk.read(lambda store, caller: companies.get_company(store, caller, request.company_id))
        )

    async def ListCompanies(
        self, request: companies_pb2.ListCompaniesRequest, _: object
    ) -> companies_pb2.ListCompaniesResponse:
        """Return a page of companies."""
        page = page_request(request.page_size, request.page_token)
        found = await self._desk.read(
            lambda store, caller: companies.list_companies(store, caller, request.query, page)
        )
        return companies_pb2.ListCompaniesResponse(
            companies=map(company_to_proto, found.rows), next_page_token=found.next_page_token
        )

    async def UpdateCompany(self, request: companies_pb2.UpdateCompanyRequest, _: object) -> companies_pb2.Company:
        """Change a company."""
        changes = company_changes(request)
        return await self._desk.write(
            request,
            companies_pb2.Company,
            lambda store, caller, now_ms: companies.update_company(
                store, caller, request.company.id, changes, request.company.etag, now_ms
            ),
            _answer,
        )
