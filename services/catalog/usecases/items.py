"""What the verbs of all nouns share: finding what the caller sees, owners, names, deletion."""

from typing import TypeVar

from services.catalog.domain.items import Item, Owner, require_can_own
from services.catalog.ports import Accounts, ListFilter, Shelf, Store
from services.common.errors import AlreadyExistsError, FailedPreconditionError, not_found
from services.common.identity import Principal
from services.common.pages import Page, PageRequest

T = TypeVar("T", bound=Item)


async def find_account(accounts: Accounts, caller: Principal, account_id: str) -> Owner:
    """Return an account that the caller sees; an empty id is the caller's own. NOT_FOUND otherwise."""
    if not caller.service and account_id in {"", caller.account_id}:
        return Owner(caller.account_kind, caller.account_path)
    account = await accounts.get(account_id)
    caller.require_sees(account.path, "account", account_id)
    return Owner(account.kind, account.path)


async def find_owner(accounts: Accounts, caller: Principal, account_id: str) -> Owner:
    """Return the account that shall own an object; as `find_account`, and no SUB_ACCOUNT."""
    owner = await find_account(accounts, caller, account_id)
    require_can_own(owner)
    return owner


async def get_item(shelf: Shelf[T], caller: Principal, object_id: str) -> T:
    """Return an object that the caller sees, or raise NOT_FOUND."""
    item = await shelf.find(object_id)
    if item is None:
        raise not_found(shelf.kind, object_id)
    caller.require_sees(item.owner_path, shelf.kind, object_id)
    return item


async def list_items(shelf: Shelf[T], caller: Principal, account_id: str, page: PageRequest) -> Page[T]:
    """Return a page of the objects that the caller sees, oldest first; of one account, if it is named."""
    return await shelf.page(ListFilter(caller.account_path, account_id), page)


async def require_name(shelf: Shelf[T], item: T) -> None:
    """Raise ALREADY_EXISTS NAME_TAKEN if another object of the account has the name."""
    holder = await shelf.holder_of_name(item.account_id, item.name)
    if holder not in {"", item.id}:
        raise AlreadyExistsError(
            "NAME_TAKEN",
            f"The account has a {shelf.kind.replace('_', ' ')} named {item.name!r}: {holder}. Choose another name.",
            metadata={"id": holder},
            resource=(shelf.kind, holder),
        )


async def require_unused(store: Store, shelf: Shelf[T], item: T) -> None:
    """Raise FAILED_PRECONDITION <KIND>_IN_USE if a plan or tariff references the object."""
    if sources := await store.references.sources(item.id):
        raise FailedPreconditionError(
            f"{shelf.kind.upper()}_IN_USE",
            f"{item.name!r} is referenced by {', '.join(sources[:10])}. Delete or change those first.",
            metadata={"referenced_by": ", ".join(sources[:10])},
        )
