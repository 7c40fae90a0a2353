"""Page tokens are of the list, and of the filters, that they were made for (AIP-158)."""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.message import Message

from services.common.pages import token_invalid

Answer = Callable[[Any, Any], Awaitable[Any]]
_MARK_LENGTH = 8


def is_paged(method: str) -> bool:
    """Whether a method, `package.Service/Method`, answers in pages."""
    found = descriptor_pool.Default().FindMethodByName(method.replace("/", "."))
    return "page_token" in found.input_type.fields_by_name


def paged(method: str, answer: Answer) -> Answer:
    """Make a handler's tokens good for requests that ask for the same but another page, of whatever size.

    With a token of another list or filter pages would begin somewhere in the middle, and nobody would know.

    Raises:
        InvalidArgumentError: PAGE_TOKEN_INVALID.
    """

    async def answer_page(request: Any, context: Any) -> Any:
        mark = _mark(method, request)
        if request.page_token:
            if not request.page_token.startswith(mark):
                raise token_invalid()
            request.page_token = request.page_token[_MARK_LENGTH:]
        response = await answer(request, context)
        if response.next_page_token:
            response.next_page_token = mark + response.next_page_token
        return response

    return answer_page


def _mark(method: str, request: Message) -> str:
    """What is asked for, but for the page."""
    asked = type(request)()
    asked.CopyFrom(request)
    asked.ClearField("page_token")
    asked.ClearField("page_size")
    content = method.encode() + asked.SerializeToString(deterministic=True)
    return hashlib.blake2b(content, digest_size=_MARK_LENGTH // 2).hexdigest()
