"""Sessions as docs/charging.md has them: what is reserved for a service, charged when it is reported, and given back."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from services.rating.domain.terms import AccountTerms
from tests.model.prices import CountKey, Counts, Period
from tests.model.reference import Cover, Model, Payer, Pot, Purse, Use, Verdict


@dataclass
class Held:
    """What is reserved at one step for one service."""

    service: int
    purse: Purse
    at_ms: int
    money: int = 0
    owed: int = 0
    units: list[tuple[Pot, int]] = field(default_factory=list)
    counts: list[tuple[CountKey, Period, int]] = field(default_factory=list)

    def give_back(self, counts: Counts) -> None:
        for held in self.counts:
            counts.give_back(*held)
        self.purse.money_reserved -= self.money
        self.purse.owed_reserved -= self.owed
        for pot, units in self.units:
            pot.reserved -= units


@dataclass
class Session:
    """A session; it is open until it is released."""

    sequence: int = 0
    is_open: bool = True
    valid_until_ms: int = 0
    ends_ms: int = 0
    held: list[Held] = field(default_factory=list)

    def give_back(self, counts: Counts, service: int = 0) -> None:
        """Give back what is held for a service, or for all."""
        for each in [held for held in self.held if service in {0, held.service}]:
            each.give_back(counts)
            self.held.remove(each)


@dataclass(frozen=True)
class Line:
    """What a call says of one service: what was used, of which nature, and how much is asked for on which network."""

    use: Use
    requested: int
    network: str


@dataclass(frozen=True)
class Granted:
    """The answer to a line."""

    service: int
    granted: int
    reason: str = ""
    step: int = 0
    charged: Verdict | None = None


class Sessions:
    """The sessions of a model's endpoints."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.known: dict[str, Session] = {}

    def lapse(self, now_ms: int) -> None:
        """Give back what is held beyond its time; a session that was silent for long ends."""
        for session in self.known.values():
            if session.is_open and session.valid_until_ms and now_ms >= session.valid_until_ms:
                session.give_back(self._model.counts)
                session.is_open = now_ms < session.ends_ms
        self._model.settle()

    def call(self, name: str, sequence: int, lines: Sequence[Line], *, releases: bool) -> list[Granted] | str:
        """Create, update or release; returns the answers, or why the call does not fit."""
        for line in lines:
            self._model.share(line.use)
            self._model.share(replace(line.use, network=line.network))
        session = self.known.get(name)
        if session is None and sequence == 0:
            session = self.known[name] = Session(-1)
        if session is None or sequence != session.sequence + 1:
            return "SESSION_OUT_OF_SEQUENCE"
        late = not session.is_open
        if late and not any(line.use.quantity for line in lines):
            return "SESSION_CLOSED"
        if releases:
            for service in {held.service for held in session.held} - {line.use.service for line in lines}:
                session.give_back(self._model.counts, service)
        charged = [self._charge(session, line.use) for line in lines]
        asks = not releases and not late
        answers = [
            self._grant(session, line, bill, requested=line.requested if asks else 0)
            for line, bill in zip(lines, charged, strict=True)
        ]
        self._model.settle()
        session.sequence, session.is_open = sequence, session.is_open and not releases
        return answers

    def _charge(self, session: Session, use: Use) -> Verdict | None:
        """Charge a use, which may take what is held of its own service; a window that it begins began with its grant."""
        counts = self._model.counts
        for held in session.held:
            for key, _, _ in held.counts if held.service == use.service else ():
                counts.granted[key] = [Fraction(held.at_ms // 1000, 86400)]
        session.give_back(counts, use.service)
        charged = self._model.charge(use, asks=False) if use.quantity else None
        counts.granted.clear()
        return charged

    def _grant(self, session: Session, line: Line, charged: Verdict | None, *, requested: int) -> Granted:
        granted, reason, step = (0, "", 0)
        if requested:
            granted, reason, step = self._reserve(session, replace(line.use, quantity=requested, network=line.network))
        return Granted(line.use.service, granted, reason, step, charged)

    def _reserve(self, session: Session, use: Use) -> tuple[int, str, int]:
        """Reserve the largest part that every step can cover."""
        if denial := self._model.denied(use):
            return 0, *denial
        reason, limiting = "", 0
        while use.quantity:
            covers = self._model.covers(use)
            short = next(((step, each) for step, (_, each) in enumerate(covers) if each.uncovered), None)
            if short is None:
                session.held += [self._hold(payer, covered, use) for payer, covered in covers]
                self._model.purse(self._model.endpoints[use.endpoint]).blocked.discard(use.service)
                break
            limiting, reason = short[0], short[1].reason
            use = replace(use, quantity=use.quantity - short[1].uncovered)
        return use.quantity, *((reason, limiting) if use.quantity else self._model.refusal(use, reason, limiting))

    def _hold(self, payer: Payer, covered: Cover, use: Use) -> Held:
        purse, amount = self._model.purse(payer), max(0, covered.owed)
        plan = self._model.plan_of(payer)
        held = Held(use.service, purse, use.at_ms, units=covered.draws)
        for key, scope, more in {each[:2]: (*each[:2], each[3]) for each in covered.price.counts}.values():
            self._model.counts.hold(key, scope, more)  # once, also if components count together
            held.counts.append((key, scope, more))
        for (key, scope), most in covered.parts.items():
            self._model.counts.hold(key, scope, most)
            held.counts.append((key, scope, most))
        if plan is not None and plan.prepaid:
            held.money = amount
        elif isinstance(payer, AccountTerms) and payer.credit_limit_micros is not None:
            held.owed = amount
        purse.money_reserved += held.money
        purse.owed_reserved += held.owed
        for pot, units in held.units:
            pot.supply(units, use.at_ms)
            pot.reserved += units
        return held
