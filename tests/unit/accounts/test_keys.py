"""Credentials: their form, and that a secret is kept only as a hash."""

import pytest

from services.accounts.domain.keys import ApiKey, new_credential, read_credential
from services.common.identity import Role
from services.common.ids import new_id


def test_a_credential_is_read_back_and_opens_its_digest():
    credential = new_credential(new_id("key"))
    assert read_credential(credential.text) == credential
    assert credential.opens(credential.digest)
    assert not credential.opens(new_credential(credential.key_id).digest)
    assert credential.secret.encode() not in credential.digest


GOOD = new_credential(new_id("key")).text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mk_",
        GOOD[:-1],
        GOOD + "x",
        GOOD + "\n",
        GOOD.upper(),
        GOOD.replace("mk_", "key_"),
        " " + GOOD,
        f"{GOOD[:3]}u{GOOD[4:]}",
    ],
    ids=["nothing", "prefix", "cut", "longer", "line end", "upper case", "other prefix", "space", "no such letter"],
)
def test_what_is_not_a_credential_is_none(text):
    assert read_credential(text) is None


def test_a_key_works_until_the_millisecond_in_which_it_expires():
    key = ApiKey(id="key_1", owner_path=("o",), name="n", role=Role.ADMIN, expires_ms=1000)
    assert key.works(999)
    assert not key.works(1000)
    assert not ApiKey(id="key_1", owner_path=("o",), name="n", role=Role.ADMIN, revoked_ms=1).works(0)
