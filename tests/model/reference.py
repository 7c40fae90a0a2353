"""Charging as docs/charging.md has it: who pays for a use at every level, and what is left."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from services.rating.domain.cycles import boundaries
from services.rating.domain.terms import AccountTerms, Assignment, Benefit, CatalogTerms, EndpointTerms, PlanTerms
from tests.model.prices import Counting, Counts, Price, price, rate_for, version_at

Payer = EndpointTerms | AccountTerms


@dataclass
class Pot:
    """A bucket."""

    assignment: Assignment
    plan: PlanTerms
    benefit: Benefit
    remaining: int
    reserved: int = 0
    state: str = "ACTIVE"
    activated_ms: int = 0
    expires_ms: int = 0
    cycles: Sequence[int] = ()
    money: bool = False

    @property
    def id(self) -> str:
        return f"{self.assignment.id.removeprefix('asg_')}.{self.benefit.id}"

    @property
    def free(self) -> int:
        return self.remaining - self.reserved

    def order(self) -> tuple[object, ...]:
        """Add-ons before base benefits, active before pending; priority, earliest end, earliest activation, id."""
        rank = 3 if not self.plan.addon else (2 if self.state == "PENDING" else 1)
        priority = self.assignment.priority if self.plan.addon else 0
        return (rank, priority, self.expires_ms == 0, self.expires_ms, self.activated_ms, self.id)

    def look(self, at_ms: int) -> None:
        """Expire, or begin a new cycle, if the time has come."""
        if not self.expires_ms or at_ms < self.expires_ms or self.state == "EXPIRED":
            return
        self.remaining = self.reserved = 0
        following = [boundary for boundary in self.cycles if boundary > at_ms]
        if following:
            self.remaining, self.expires_ms = self.benefit.quantity, following[0]
            self.state = "PENDING" if self.state == "PENDING" else "ACTIVE"  # only use activates
        else:
            self.state = "EXPIRED"

    def draw(self, units: int, at_ms: int) -> None:
        """Take units; the first activates."""
        if self.state == "PENDING":
            self.state, self.activated_ms = "ACTIVE", at_ms
            end = at_ms + self.plan.validity_ms
            if self.plan.validity_ms and (self.expires_ms == 0 or end < self.expires_ms):
                self.expires_ms = end
        self.remaining -= units
        if self.remaining == 0:
            self.state = "DEPLETED"


@dataclass
class Purse:
    """What a payer has."""

    pots: dict[str, Pot] = field(default_factory=dict)
    money: int = 0
    money_reserved: int = 0
    owed: int = 0
    owed_reserved: int = 0
    blocked: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Use:
    """A use of the network."""

    endpoint: str
    service: int
    network: str
    access: int
    at_ms: int
    quantity: int
    cost: int = 0
    session: object = ""


@dataclass
class Cover:
    """What a step can cover of a use."""

    draws: list[tuple[Pot, int]] = field(default_factory=list)
    benefit: int = 0
    rated: int = 0
    uncovered: int = 0
    reason: str = ""
    price: Price = field(default_factory=Price)
    owed: int = 0
    """The price less what buckets of money pay."""


@dataclass(frozen=True)
class Verdict:
    """What became of a use: charged (amount, rated, uncovered by step) or refused."""

    refused: str = ""
    step: int = 0
    amounts: tuple[int, ...] = ()
    uncovered: tuple[int, ...] = ()
    throttled: bool = False


class Model:
    """An enterprise's endpoints and the accounts above it.

    Args:
        endpoints: by id.
        chain: from the enterprise upwards.
        catalog: the commercial terms.
    """

    def __init__(
        self, endpoints: dict[str, EndpointTerms], chain: Sequence[AccountTerms], catalog: CatalogTerms
    ) -> None:
        self.endpoints = dict(endpoints)
        self.chain = list(chain)
        self.catalog = catalog
        self.purses: dict[str, Purse] = {}
        self.counts = Counts()
        self._told: dict[str, object] = {}

    # --- who has what ---------------------------------------------------------------------------------------------

    def purse(self, payer: Payer) -> Purse:
        """A payer's purse, with the buckets of its plans as they are now."""
        purse = self.purses.setdefault(payer.id, Purse())
        given = (payer.base, payer.addons)
        if self._told.get(payer.id) != given:
            self._told[payer.id] = given
            self._give(payer, purse)
        return purse

    def _give(self, payer: Payer, purse: Purse) -> None:
        wanted = {pot.id: pot for pot in self._pots(payer)}
        if wanted.keys() - purse.pots.keys():
            purse.blocked.clear()
        for name, pot in wanted.items():
            present = purse.pots.get(name)
            if present is not None:
                present.assignment, present.cycles = pot.assignment, pot.cycles
                if not pot.cycles and (pot.expires_ms or pot.state == "ACTIVE"):
                    present.expires_ms = pot.expires_ms
                wanted[name] = present
        purse.pots = wanted

    def _pots(self, payer: Payer) -> Iterator[Pot]:
        billed = self.chain[0] if isinstance(payer, EndpointTerms) else payer
        for assignment in (*payer.addons, *((payer.base,) if payer.base else ())):
            plan = self.catalog.plans[assignment.plan]
            for benefit in plan.benefits:
                pending = plan.addon and plan.on_usage
                cycles: Sequence[int] = ()
                if benefit.recurring:
                    cycles = boundaries(assignment.assigned_ms, billed.billing_cycle_day, billed.time_zone)
                    if end := assignment.expires_ms:
                        cycles = [*(boundary for boundary in cycles if boundary < end), end]
                yield Pot(
                    assignment,
                    plan,
                    benefit,
                    benefit.quantity,
                    state="PENDING" if pending else "ACTIVE",
                    activated_ms=0 if pending else assignment.assigned_ms,
                    expires_ms=cycles[0] if cycles else assignment.expires_ms,
                    cycles=cycles,
                    money=benefit.money,
                )

    def _steps(self, endpoint: EndpointTerms) -> list[tuple[Payer, AccountTerms]]:
        payers: list[Payer] = [endpoint, *self.chain[:-1]]
        return list(zip(payers, self.chain, strict=True))

    # --- may it be, and what does it cost -------------------------------------------------------------------------

    def denied(self, use: Use) -> tuple[str, int] | None:
        """Why a use that asks first is refused whatever the balances."""
        endpoint, zero = self.endpoints[use.endpoint], 0
        found: list[tuple[str, int]] = []
        if not endpoint.active:
            found.append(("ENDPOINT_NOT_ACTIVE", zero))
        if not endpoint.owner_active:
            found.append(("ACCOUNT_NOT_ACTIVE", zero))
        last = len(self.chain) - 1
        found += [("ACCOUNT_NOT_ACTIVE", min(i + 1, last)) for i, a in enumerate(self.chain) if not a.active]
        if use.service in endpoint.barred:
            found.append(("SERVICE_BARRED", zero))
        if use.network not in self.catalog.coverage.get(self.chain[0].id, frozenset()):
            found.append(("NETWORK_NOT_ALLOWED", zero))
        for number, (payer, _) in enumerate(self._steps(endpoint)):
            if payer.base is None:
                found.append(("NO_BASE_PLAN", number))
                continue
            plan = self.catalog.plans[payer.base.plan]
            if use.access not in plan.access.get(use.service, frozenset()):
                found.append(("SERVICE_BARRED", number))
            if plan.networks is not None and use.network not in plan.networks:
                found.append(("NETWORK_NOT_ALLOWED", number))
        if found:
            return found[0]
        return ("ENDPOINT_BLOCKED", 0) if use.service in self.purse(endpoint).blocked else None

    def _in(self, zones: Sequence[str], network: str) -> bool:
        return not zones or any(network in self.catalog.zones.get(zone, ()) for zone in zones)

    def _usable(self, pot: Pot, use: Use) -> bool:
        permitted = use.access in pot.plan.access.get(use.service, frozenset())
        here = self._in(pot.plan.zones, use.network) and self._in(pot.benefit.zones, use.network)
        return permitted and here and use.service in pot.benefit.services

    def _headroom(self, payer: Payer, plan: PlanTerms | None) -> tuple[int | None, str]:
        """What a payer can still pay (None is no bound), and the reason when that is not enough."""
        purse = self.purse(payer)
        if plan is not None and plan.prepaid:
            return purse.money - purse.money_reserved, "BALANCE_DEPLETED"
        if isinstance(payer, AccountTerms) and payer.credit_limit_micros is not None:
            return payer.credit_limit_micros - purse.owed - purse.owed_reserved, "CREDIT_LIMIT"
        return None, "BALANCE_DEPLETED"

    def cover(self, payer: Payer, payee: AccountTerms, use: Use) -> Cover:
        """What a step can cover: benefits first, then the tariff as far as it can be paid."""
        plan = self.catalog.plans[payer.base.plan] if payer.base else None
        found, left = Cover(), use.quantity
        pots = [pot for pot in self.purse(payer).pots.values() if self._usable(pot, use)]
        for pot in pots:
            pot.look(use.at_ms)
        pots = sorted((p for p in pots if p.free > 0 and p.state != "EXPIRED"), key=Pot.order)
        for pot in pots:
            if left and not pot.money:
                found.draws.append((pot, min(left, pot.free)))
                left -= found.draws[-1][1]
        found.benefit, found.uncovered = use.quantity - left, left
        if left:
            self._rate(found, left, [p for p in pots if p.money], payer, payee, plan, use)
        return found

    def _rate(
        self,
        found: Cover,
        left: int,
        wallets: Sequence[Pot],
        payer: Payer,
        payee: AccountTerms,
        plan: PlanTerms | None,
        use: Use,
    ) -> None:
        tariff = version_at(self.catalog, plan.tariff_id, use.at_ms) if plan else None
        terms = (use.service, use.network, use.access, use.at_ms)
        rate = rate_for(tariff, self.catalog, *terms) if tariff else None
        if tariff is None or rate is None:
            none = "NO_VALID_ADDON" if plan and plan.prepaid and not plan.tariff_id else "NO_RATE"
            found.reason = none if plan else "NO_BASE_PLAN"
            return
        account = payer if isinstance(payer, AccountTerms) else payee
        counting = Counting(
            tariff, payee.id, account.id, use.endpoint, account.billing_cycle_day, account.time_zone,
            use.network, self.catalog.networks[use.network], use.session, use.at_ms,
        )  # fmt: skip
        headroom, reason = self._headroom(payer, plan)
        credit = sum(pot.free for pot in wallets)

        def fits(quantity: int) -> Price | None:
            priced = price(counting, rate, use.service, quantity, use.cost, self.counts)
            payable = headroom is None or priced.amount <= max(0, headroom + credit)
            return priced if not priced.blocked and (payable or priced.amount <= 0) else None

        low, best = 0, fits(left)
        if best is not None:
            low = left
        else:
            blocked = price(counting, rate, use.service, left, use.cost, self.counts).blocked
            found.reason = "USAGE_LIMIT" if blocked else reason
            high = left - 1
            while low < high:
                middle = (low + high + 1) // 2
                low, high = (middle, high) if fits(middle) else (low, middle - 1)
            best = fits(low) if low else Price()
        found.rated, found.uncovered = low, left - low
        found.price = best or Price()
        found.owed = found.price.amount
        for pot in wallets:
            take = min(found.owed, pot.free)
            if take > 0:
                found.draws.append((pot, take))
                found.owed -= take

    def plan_of(self, payer: Payer) -> PlanTerms | None:
        """A payer's base plan."""
        return self.catalog.plans[payer.base.plan] if payer.base else None

    def covers(self, use: Use) -> list[tuple[Payer, Cover]]:
        """What each step can cover."""
        return [(payer, self.cover(payer, payee, use)) for payer, payee in self._steps(self.endpoints[use.endpoint])]

    # --- charging -------------------------------------------------------------------------------------------------

    def charge(self, use: Use, *, asks: bool) -> Verdict:
        """Charge a use at every step, or, if it asks first and is not covered, at none."""
        endpoint = self.endpoints[use.endpoint]
        steps, covers = self._steps(endpoint), list[Cover]()
        for payer, _ in steps:
            self.purse(payer)
        if asks and (denial := self.denied(use)):
            return Verdict(*denial)
        for number, (payer, payee) in enumerate(steps):
            covered = self.cover(payer, payee, use)
            if covered.uncovered and asks:
                return Verdict(covered.reason, number)
            covers.append(covered)
        for (payer, _), covered in zip(steps, covers, strict=True):
            self._pay(payer, covered, use)
        reasons = [covered.reason for covered in covers if covered.uncovered]
        if reasons and reasons[0] in {"BALANCE_DEPLETED", "NO_VALID_ADDON", "CREDIT_LIMIT"}:
            self.purse(endpoint).blocked.add(use.service)
        return Verdict(
            amounts=tuple(covered.owed for covered in covers),
            uncovered=tuple(covered.uncovered for covered in covers),
            throttled=any(covered.price.throttled for covered in covers),
        )

    def _pay(self, payer: Payer, covered: Cover, use: Use) -> None:
        for pot, units in covered.draws:
            pot.draw(units, use.at_ms)
        for key, scope, count in covered.price.counts:
            self.counts.set(key, scope, count)
        plan, purse = (self.catalog.plans[payer.base.plan] if payer.base else None), self.purse(payer)
        if plan is not None and plan.prepaid:
            purse.money -= covered.owed
        elif isinstance(payer, AccountTerms) and payer.credit_limit_micros is not None:
            purse.owed += covered.owed

    def top_up(self, payer_id: str, micros: int, at_ms: int) -> int:
        """Add money; the services of an endpoint are no longer blocked. Who is told the balance sees what has ended."""
        payer = self.endpoints.get(payer_id) or next(each for each in self.chain if each.id == payer_id)
        purse = self.purse(payer)
        purse.money += micros
        purse.blocked.clear()
        for pot in purse.pots.values():
            pot.look(at_ms)
        return purse.money
