"""Compares two parties' shared terms and names the first difference.

Rules: docs/PROTOCOL.md section 4.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from onionmpc.errors import AgreementError
from onionmpc.session.agreed_options import AGREED_OPTIONS
from onionmpc.session.agreement import SharedTerms
from onionmpc.text import printable

_OPTION_NAMES = {option.term: option.name for option in AGREED_OPTIONS}
# The name of each term in messages, in the order of comparison. The program comes first: if two parties run different
# programs with different arguments, the message names the programs.
TERM_NAMES = {
    "protocol": "protocol version",
    "addresses": "parties",
    "threshold": _OPTION_NAMES["threshold"],
    "program": "program",
    "files": "program file",
    "public_arguments": _OPTION_NAMES["public_arguments"],
    "mpyc_version": "MPyC version",
    **_OPTION_NAMES,
    "python": "Python",
    "numpy": "numpy's major version",
    "uninvited": "uninvited parties",
}


def unexplained(_path: str, _sha256: str) -> str:
    """Return no explanation: the default for `explain`."""
    return ""


def check_equal(
    ours: SharedTerms, theirs: SharedTerms, *, here: str, there: str, explain: Callable[[str, str], str] = unexplained
) -> None:
    """Check that two parties have the same shared terms.

    Args:
        here, there: names of the two for messages, such as "party 0" and "party 2".
        explain: describes a trivial difference between our file at a path and theirs, from their SHA-256 in hex.

    Raises:
        AgreementError: a term differs. The message names it with both values.
    """
    for field, name in TERM_NAMES.items():
        mine, other = getattr(ours, field), getattr(theirs, field)
        if mine != other:
            if field in ("program", "files") and (renamed := _renamed(ours.files, theirs.files)):
                raise AgreementError(
                    f"a file of the program has two names: {renamed[0]} at {here}, {renamed[1]} at {there}",
                    hint="its content is the same: rename it at one of them, and start again",
                )
            if field == "files":
                path = _first_difference(mine, other)
                how = explain(path, other[path]) if path in mine and path in other else ""
                name = f"program file {printable(path)}"
                mine, other = (f"SHA-256 {f[path][:16]}…" if path in f else "missing" for f in (mine, other))
                if how:
                    raise AgreementError(
                        f"{name} differs {how}: {_show(mine)} at {here}, {_show(other)} at {there}",
                        hint="git, mail and editors change these: send the file in an archive",
                    )
            raise AgreementError(
                f"{name} differs: {_show(mine)} at {here}, {_show(other)} at {there}",
                hint="agree on one with the others, and start again",
            )


def _first_difference(ours: dict[str, str], theirs: dict[str, str]) -> str:
    # The lowest path, so that both parties name the same file.
    return min(path for path in ours.keys() | theirs.keys() if ours.get(path) != theirs.get(path))


def _renamed(ours: dict[str, str], theirs: dict[str, str]) -> tuple[str, str] | None:
    """Return both paths of the first file that differs only in its path, or None."""
    others = {digest: path for path, digest in theirs.items() if path not in ours}
    for path, digest in sorted(ours.items()):
        if path not in theirs and digest in others:
            return printable(path), printable(others[digest])
    return None


def _show(value: object) -> str:
    if isinstance(value, bool):
        return "wanted" if value else "not wanted"
    if isinstance(value, tuple | list):
        return f"({', '.join(printable(str(item)) for item in value)})"
    return "none" if value is None or value is msgspec.UNSET else printable(str(value)) or "nothing"
