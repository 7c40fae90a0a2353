"""HTTP/1.1 with a bound on the head of a request, and with problems where uvicorn answers in plain text."""

from typing import ClassVar
from uuid import uuid4

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.problems import MEDIA_TYPE, Problem

_MALFORMED = Problem(400, "HTTP_MALFORMED", "This is not a request of HTTP/1.1.")


def protocol_with(head_bytes_max: int) -> type[HttpToolsProtocol]:
    """The protocol with its bound on request line and headers."""
    return type("Protocol", (BoundedProtocol,), {"head_bytes_max": head_bytes_max})


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol reads a head of any length; this one refuses it over `head_bytes_max`."""

    head_bytes_max: ClassVar[int]
    _head_bytes = 0
    _head_is_open = True
    _refusal = _MALFORMED

    def data_received(self, data: bytes) -> None:
        """Read on; refuse a head that is too long before it is complete."""
        super().data_received(data)
        if self._head_is_open and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > self.head_bytes_max:
                self._refuse_head()
                self.send_400_response("")

    def on_message_begin(self) -> None:
        """Begin to count."""
        super().on_message_begin()
        self._head_is_open, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """Measure the head; an error here ends in `send_400_response`."""
        self._head_is_open = False
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > self.head_bytes_max:
            self._refuse_head()
            raise ValueError(self._refusal.code)
        super().on_headers_complete()

    def _refuse_head(self) -> None:
        detail = f"Request line and headers are longer than {self.head_bytes_max} bytes."
        self._refusal = Problem(431, "HEADERS_TOO_LARGE", detail)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the problem says it better
        """Answer what is no request, and close."""
        body = self._refusal.body(uuid4().hex)
        head = f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
        self.transport.write(STATUS_LINE[self._refusal.status] + head + body)
        self.transport.close()
