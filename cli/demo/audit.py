"""Reads the demo's books back, as each account sees them, into statements and checks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date

from google.protobuf.timestamp_pb2 import Timestamp

from cli.books import Books, Sums
from cli.demo import checks
from cli.demo.answers import Answers, Chain
from cli.demo.scenario import ENTERPRISES, MEMBERS, OPERATOR, PREPAID, Member
from cli.demo.setup import Tree
from cli.demo.statement import Statement, by_level, statement_of
from cli.demo.usage import month_span_ms
from meterline.rating.v1.balances_pb2 import Balance, LedgerEntry, ListBalancesRequest, ListLedgerEntriesRequest
from meterline.rating.v1.charges_pb2 import (
    Charge,
    ListChargesRequest,
    SummarizeUsageRequest,
    SummaryDimension,
    UsageSummary,
)
from meterline.type.v1.service_pb2 import Unit

SAMPLE = 4
"""Endpoints of each enterprise, and endpoints with money, whose charges are read one by one."""
PARENTS = {member.name: member.parent for member in MEMBERS}


def line_of(name: str) -> list[str]:
    """A member and those above it, up to the operator."""
    line = [name]
    while line[-1] != OPERATOR:
        line.append(PARENTS[line[-1]])
    return line


class Audit:
    """What the books say about the demo's month.

    Args:
        tree: the accounts.
        month: its first day.
        answers: what rating answered.
        sent: how many records were sent.
    """

    def __init__(self, tree: Tree, month: date, answers: Answers, sent: int) -> None:
        self._tree, self._answers, self._sent = tree, answers, sent
        self._span = tuple(map(_timestamp, month_span_ms(month)))
        self._chains: dict[str, Chain] = {}
        for name, endpoints in tree.endpoints.items():
            chain = [tree.account_id(member) for member in line_of(name)]
            self._chains.update(dict.fromkeys(endpoints, chain))
        self._seen: dict[str, Sums] = {}
        """The month's sums by level, as each member sees them."""

    def _books(self, name: str) -> Books:
        return Books(self._tree.actor(name).rating)

    async def read(self) -> None:
        """Read every account's sums, with its own key."""
        for name in (OPERATOR, *PARENTS):
            self._seen[name] = await self._books(name).sums(self._sums_request(self._tree.account_id(name)))
        ours = {self._tree.account_id(name) for name in PARENTS}
        top = self._seen[OPERATOR]
        top.rows[:] = [row for row in top.rows if row.payer_id in ours]  # others may use the same system
        top.refusals[:] = [
            refusal for name, parent in PARENTS.items() if parent == OPERATOR for refusal in self._seen[name].refusals
        ]

    def _sums_request(self, account_id: str = "", endpoint_id: str = "") -> SummarizeUsageRequest:
        return SummarizeUsageRequest(
            account_id=account_id,
            endpoint_id=endpoint_id,
            group_by=[SummaryDimension.SUMMARY_DIMENSION_LEVEL],
            start_time=self._span[0],
            end_time=self._span[1],
        )

    def statements(self) -> dict[str, Statement]:
        """Each account's statement, parents before children."""
        names = [OPERATOR]
        for member in MEMBERS:
            below = [name for name in names if member.parent in line_of(name)]
            names.insert(names.index(below[-1]) + 1, member.name)
        return {
            name: statement_of(self._tree.account_id(name), self._seen[OPERATOR].rows, self._seen[name].refusals)
            for name in names
        }

    async def laws(self) -> list[checks.Check]:
        """All laws, and whether they hold."""
        levels, names = by_level(self._seen[OPERATOR].rows), self._tree.name_of
        told = Counter[tuple[int, int]]()
        for refusal in self._seen[OPERATOR].refusals:
            told[refusal.reason, refusal.step] += refusal.record_count
        sample = await self._sample_charges()
        whose: dict[str, tuple[Sequence[Charge], Sequence[UsageSummary]]] = {}
        for endpoint, charges in sample.items():
            whose[endpoint] = (charges, await self._rows(endpoint))
        whose |= await self._smallest_payer()
        return [
            checks.every_record_once(self._answers, self._sent),
            checks.duplicates_are_replays(self._answers),
            checks.books_follow_answers(levels, self._answers, self._chains, names),
            checks.refusals_follow_answers(told, self._answers, self._chains),
            checks.volumes_are_equal(levels, names),
            checks.chains_are_whole(sample, self._chains),
            checks.payers_pay_what_payees_get([self._pair(member) for member in MEMBERS]),
            checks.charges_add_up(whose),
            checks.balances_move_by_charges(await self._wallets()),
            *[await self._credit(member) for member in MEMBERS if member.credit_limit is not None],
        ]

    def _pair(self, member: Member) -> tuple[str, Counter[str], Counter[str]]:
        account_id = self._tree.account_id(member.name)
        cost = statement_of(account_id, self._seen[member.name].rows, ()).cost
        from_it = [row for row in self._seen[member.parent].rows if row.payer_id == account_id and row.step > 0]
        return member.name, cost, statement_of(self._tree.account_id(member.parent), from_it, ()).revenue

    async def _sample_charges(self) -> dict[str, list[Charge]]:
        endpoints = [ids[number] for ids in self._tree.endpoints.values() for number in range(min(SAMPLE, len(ids)))]
        requests = [
            ListChargesRequest(endpoint_id=endpoint, start_time=self._span[0], end_time=self._span[1])
            for endpoint in endpoints
        ]
        books = self._books(OPERATOR)
        return dict(zip(endpoints, [await books.charges(request) for request in requests], strict=True))

    async def _rows(self, endpoint_id: str) -> Sequence[UsageSummary]:
        return (await self._books(OPERATOR).sums(self._sums_request(endpoint_id=endpoint_id))).rows

    async def _smallest_payer(self) -> Mapping[str, tuple[Sequence[Charge], Sequence[UsageSummary]]]:
        """The enterprise with the fewest charges: all that it pays, one by one."""
        rows = {
            member.name: [
                row
                for row in self._seen[OPERATOR].rows
                if row.step > 0 and row.payer_id == self._tree.account_id(member.name)
            ]
            for member in ENTERPRISES
        }
        name = min(rows, key=lambda name: sum(row.record_count for row in rows[name]))
        request = ListChargesRequest(
            payer_id=self._tree.account_id(name), start_time=self._span[0], end_time=self._span[1]
        )
        return {name: (await self._books(name).charges(request), rows[name])}

    async def _wallets(self) -> Mapping[str, tuple[Balance, Sequence[LedgerEntry], Sequence[Charge]]]:
        """Prepaid balances with all that ever moved them: of the prepaid accounts, and of some prepaid endpoints."""
        found = {}
        for member in MEMBERS:
            if member.mode == PREPAID:
                account_id = self._tree.account_id(member.name)
                found[member.name] = await self._wallet(ListBalancesRequest(account_id=account_id), account_id)
        for endpoints in self._tree.topped_up.values():
            for endpoint_id in endpoints[:SAMPLE]:
                found[endpoint_id] = await self._wallet(ListBalancesRequest(endpoint_id=endpoint_id), endpoint_id)
        return found

    async def _wallet(
        self, request: ListBalancesRequest, payer_id: str
    ) -> tuple[Balance, Sequence[LedgerEntry], Sequence[Charge]]:
        operator = self._tree.operator
        entries: list[LedgerEntry] = []
        balance = await self._money(request)
        page = ListLedgerEntriesRequest(balance_id=balance.id, page_size=1000)
        while True:
            response = await operator.call(operator.balances.ListLedgerEntries, page)
            entries.extend(response.ledger_entries)
            page.page_token = response.next_page_token
            if not page.page_token:
                break
        charges = await self._books(OPERATOR).charges(ListChargesRequest(payer_id=payer_id))
        return balance, entries, charges

    async def _credit(self, member: Member) -> checks.Check:
        account_id = self._tree.account_id(member.name)
        balance = await self._money(ListBalancesRequest(account_id=account_id))
        charges = await self._books(OPERATOR).charges(ListChargesRequest(payer_id=account_id))
        return checks.credit_is_kept(member.name, balance, charges)

    async def _money(self, request: ListBalancesRequest) -> Balance:
        operator = self._tree.operator
        balances = (await operator.call(operator.balances.ListBalances, request)).balances
        return next((balance for balance in balances if balance.unit == Unit.UNIT_MONEY), Balance())


def _timestamp(milliseconds: int) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromMilliseconds(milliseconds)
    return timestamp
