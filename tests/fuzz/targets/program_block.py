"""Blocks of programs: UsageError in one printable line that names a line of the block, or fields with distinct names.

The script may come from a stranger, and its block is read before anyone has consented to anything.
"""

from __future__ import annotations

import re

from hypothesis import strategies as st

from onionmpc.errors import UsageError
from onionmpc.program.block import ChoiceField
from onionmpc.program.block_parser import parse_metadata
from tests.fuzz.mutations import mutated
from tests.support.blocks import EVERY_KEY, script_of

SMALL = script_of('[tool.onionmpc]\nversion = 1\ntitle = "T"\nreveals = "R"')
LINES = [line.encode() + b"\n" for line in EVERY_KEY.splitlines() if line.startswith("# ") and "//" not in line]
TOKENS = [
    *LINES,
    *(b'"', b"'", b"[", b"]", b"{", b"}", b"=", b".", b"\n", b"\n#", b"\n# ", b"\r", b"# ///\n", b"# /// script\n"),
    *(b"0", b"-1", b"0.5", b"nan", b"1e999999999", b"true", b"1979-05-27", b"[]", b"{}", b'""', b'"""', b"9" * 5000),
    *(b"[" * 2000, b"a={" * 1500, b'"\\u202e"', b'"\\u0000"', b'"\\uD800"', "\u202e".encode(), b"\0", b"\x0c"),
]
HEAD = SMALL.encode().removesuffix(b"# ///\n")
# Keys in any order and place, each one well-formed.
SHUFFLED = st.lists(st.sampled_from(LINES), max_size=12).map(lambda lines: HEAD + b"".join(lines) + b"# ///\n")
INPUTS = mutated(st.sampled_from([EVERY_KEY.encode(), SMALL.encode()]) | SHUFFLED, TOKENS)
REFUSALS = (UsageError,)


def check(data: bytes) -> object:
    text = data.decode("utf-8", "replace")
    try:
        metadata = parse_metadata(text, "my.py")
    except UsageError as error:
        assert (error.message + error.hint).isprintable()
        numbers = re.findall(r"my\.py, line (\d+): |\(lines (\d+) and (\d+)\)", error.message)[0]
        lines = re.split(r"\r\n|\r|\n", text)
        assert all(lines[int(number) - 1].startswith("#") for number in filter(None, numbers))
        raise
    block = metadata.about
    if block is None:
        return None
    fields = [*block.public, *block.input]
    assert len({field.name for field in fields}) == len(fields)
    for field in block.input:
        if isinstance(field, ChoiceField) and field.choices is None:
            assert field.choices_from in {other.name for other in block.public}
    assert 2 * (block.threshold or 0) < block.min_parties
    return tuple(sorted(type(field).__name__ for field in fields))
