"""Verbs of the SIM inventory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from services.common.errors import AlreadyExistsError, FieldViolation, InvalidArgumentError, not_found
from services.common.identity import WRITERS, AccountKind, Principal
from services.common.ids import new_id
from services.common.pages import Page, PageRequest
from services.endpoints.domain.sims import Sim, require_free
from services.endpoints.ports import Account, Accounts, SimFilter, Store
from services.endpoints.usecases.callers import require_not_terminated, require_reader, visible_account
from services.endpoints.usecases.numbering import wrong_iccid, wrong_imsi, wrong_msisdn

VIOLATIONS_MAX = 50
"""Most wrong fields that one answer names."""


@dataclass(frozen=True, slots=True)
class NewSim:
    """A SIM as an import brings it."""

    iccid: str
    imsi: str
    msisdn: str = ""
    esim: bool = False


_CHECKS: dict[str, Callable[[str], str]] = {"iccid": wrong_iccid, "imsi": wrong_imsi, "msisdn": wrong_msisdn}


async def import_sims(
    store: Store, accounts: Accounts, caller: Principal, sims: Sequence[NewSim], account_id: str, now_ms: int
) -> Sequence[Sim]:
    """Take SIMs into the inventory of the caller or of an account below it; all or none.

    Raises:
        PermissionDeniedError: the caller is neither OPERATOR nor RESELLER.
        InvalidArgumentError: a number is malformed or comes twice; names each.
        AlreadyExistsError: SIM_EXISTS, a number is known; names each.
    """
    caller.require_role(*WRITERS)
    caller.require_kind(AccountKind.OPERATOR, AccountKind.RESELLER)
    _require_good_numbers(sims)
    holder = await _holder(accounts, caller, account_id or caller.account_id)
    await _require_new_numbers(store, sims)
    ids = sorted(new_id("sim", at_ms=now_ms) for _ in sims)  # so that the list shows them in the order of the import
    imported = [
        Sim(
            id=sim_id,
            iccid=sim.iccid,
            imsi=sim.imsi,
            msisdn=sim.msisdn,
            esim=sim.esim,
            account_id=holder.id,
            enterprise_id=holder.enterprise_id,
            owner_path=holder.path,
            importer_account_id=caller.account_id or holder.id,
            create_ms=now_ms,
            update_ms=now_ms,
        )
        for sim_id, sim in zip(ids, sims, strict=True)
    ]
    await store.sims.add(imported)
    return imported


async def assign_sims(
    store: Store, accounts: Accounts, caller: Principal, sim_ids: Sequence[str], account_id: str, now_ms: int
) -> Sequence[Sim]:
    """Hand SIMs to an account below the caller's, or back to the caller's own; all or none (R259).

    Raises:
        NotFoundError: a SIM or the account is outside the caller's subtree.
        FailedPreconditionError: SIM_LINKED, a SIM is in use.
    """
    caller.require_role(*WRITERS)
    caller.require_kind(AccountKind.OPERATOR, AccountKind.RESELLER, AccountKind.ENTERPRISE)
    holder = await _holder(accounts, caller, account_id)
    found = await store.sims.lock(sim_ids)
    before = []
    for sim_id in sim_ids:
        if sim_id not in found or not caller.sees(found[sim_id].owner_path):
            raise not_found("sim", sim_id)
        require_free(found[sim_id])
        before.append(found[sim_id])
    after = [
        replace(sim, account_id=holder.id, enterprise_id=holder.enterprise_id, owner_path=holder.path, update_ms=now_ms)
        for sim in before
    ]
    await store.sims.replace(before, after)
    return after


async def get_sim(store: Store, caller: Principal, sim_id: str) -> Sim:
    """Return a SIM that the caller sees."""
    require_reader(caller)
    return await store.sims.get(caller, sim_id)


async def list_sims(store: Store, caller: Principal, wanted: SimFilter, request: PageRequest) -> Page[Sim]:
    """Return a page of the SIMs that the caller sees, oldest first."""
    require_reader(caller)
    return await store.sims.page(caller, wanted, request)


async def _holder(accounts: Accounts, caller: Principal, account_id: str) -> Account:
    holder = await visible_account(accounts, caller, account_id)
    require_not_terminated(holder)
    return holder


def _require_good_numbers(sims: Sequence[NewSim]) -> None:
    violations: list[FieldViolation] = []
    for name, check in _CHECKS.items():
        first: dict[str, int] = {}
        for index, sim in enumerate(sims):
            number: str = getattr(sim, name)
            wrong = check(number)
            if not wrong and number and first.setdefault(number, index) != index:
                wrong = f"is the same as in sims[{first[number]}]"
            if wrong:
                violations.append(FieldViolation(f"sims[{index}].{name}", wrong))
    if violations:
        raise InvalidArgumentError(
            "FIELD_INVALID",
            f"{violations[0].field} {violations[0].description}. Nothing was imported.",
            violations=violations[:VIOLATIONS_MAX],
        )


async def _require_new_numbers(store: Store, sims: Sequence[NewSim]) -> None:
    violations: list[FieldViolation] = []
    for name in _CHECKS:
        taken = await store.sims.taken(name, {number for sim in sims if (number := getattr(sim, name))})
        violations += (
            FieldViolation(f"sims[{index}].{name}", "belongs to a SIM that was imported before", "SIM_EXISTS")
            for index, sim in enumerate(sims)
            if getattr(sim, name) in taken
        )
    if violations:
        raise AlreadyExistsError(
            "SIM_EXISTS",
            f"{violations[0].field} {violations[0].description}. Leave out what is known; nothing was imported.",
            violations=violations[:VIOLATIONS_MAX],
        )
