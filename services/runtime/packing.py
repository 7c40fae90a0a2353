"""MessagePack, typed: how blobs are packed that only Meterline reads."""

from typing import Any

import msgpack


def pack(value: Any, *, text_as_bytes: bool = False) -> bytes:
    """Pack lists, maps, whole numbers, text and bytes.

    Args:
        value: what to pack.
        text_as_bytes: write bytes as the old `raw` type, the only one that Lua's cmsgpack knows.
    """
    packed: bytes = msgpack.packb(value, use_bin_type=not text_as_bytes)  # type: ignore[no-untyped-call]
    return packed


def unpack(packed: bytes, *, raw: bool = False) -> Any:
    """Unpack; with `raw`, text comes back as bytes."""
    errors = None if raw else "surrogateescape"
    return msgpack.unpackb(packed, raw=raw, strict_map_key=False, unicode_errors=errors)  # type: ignore[no-untyped-call,attr-defined]
