"""An agreement of three parties, and what to change in it."""

from __future__ import annotations

from typing import Any

import msgspec

from onionmpc.levels import Level
from onionmpc.session.agreement import (
    Agreement,
    PartyTerms,
    SharedTerms,
)

COMMON = SharedTerms(
    protocol=1,
    addresses=("a.onion", "b.onion", "c.onion"),
    threshold=1,
    program="vote",
    files={"vote.py": "0a" * 32, "private_input.py": "0b" * 32},
    public_arguments=("tea,coffee",),
    mpyc_version="0.11",
    mpyc_options=(),
    python="CPython 64-bit",
    numpy=2,
)
AGREEMENT = Agreement(COMMON, (PartyTerms(), PartyTerms(Level.LONG), PartyTerms()), ("00" * 16, "01" * 16, "02" * 16))
# Another value for each field.
OTHERS: dict[str, Any] = {
    "protocol": 2,
    "addresses": ("a.onion", "b.onion", "d.onion"),
    "threshold": 0,
    "program": "auction",
    "files": {"vote.py": "0c" * 32, "private_input.py": "0b" * 32},
    "public_arguments": ("tea", "coffee"),
    "mpyc_version": "0.10",
    "mpyc_options": ("-L64",),
    "allowed_types": ("a.B",),
    "padding_rate": 1,
    "circuits": 2,
    "receipt": True,
    "python": "PyPy 64-bit",
    "numpy": None,
    "uninvited": ("c.onion",),
}


def change(common: SharedTerms, **changes: Any) -> SharedTerms:
    return msgspec.structs.replace(common, **changes)
