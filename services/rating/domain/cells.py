"""Which cell an owner lives in: the one place that says so.

A cell holds enterprises whole: their endpoints, sub-accounts, sessions, buckets and money. The number of cells never
changes in an installation, so where somebody lives never does.
"""

import hashlib

CELLS_MAX = 1024
"""Two base32 characters of a session's id name its cell."""
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_HEAD = len("ses_")


def cell_of(owner_id: str, cells: int) -> int:
    """Number of the cell, from 0, of an enterprise; of an account above enterprises, the cell of its top-ups.

    Args:
        owner_id: id of the enterprise or account.
        cells: how many cells the installation has, 1 to 1024.
    """
    return int.from_bytes(hashlib.blake2b(owner_id.encode(), digest_size=8).digest(), "big") % cells


def session_in_cell(name: str, cell: int) -> str:
    """The id of a session, told which cell it lives in: its first two characters name the cell."""
    return f"ses_{_DIGITS[cell >> 5]}{_DIGITS[cell & 31]}{name[_HEAD + 2 :]}"


def cell_of_session(name: str) -> int:
    """Number of the cell that a session's id names; -1 if it is not the id of a session."""
    digits = [_DIGITS.find(digit) for digit in name[_HEAD : _HEAD + 2]]
    return digits[0] << 5 | digits[1] if len(digits) == 2 and min(digits) >= 0 else -1
