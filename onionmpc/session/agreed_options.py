"""The options that all parties of a session must agree on, each declared once, in `AGREED_OPTIONS`.

The command line, a party's wishes, its offer, the comparison of two offers and the agreement screen are made from this
table. To add an option, add a field to `SharedTerms`, a field to `Wishes`, an entry here and its name to the table of
fields in docs/PROTOCOL.md; tests/session/test_agreed_options.py checks that they match.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any, TypedDict

from onionmpc.errors import UsageError
from onionmpc.session.agreement import DEFAULT_CIRCUITS, MAX_CIRCUITS, MAX_PADDING_RATE, SharedTerms
from onionmpc.text import printable
from onionmpc.wire.records import CELL_BYTES, FILLED_RECORD_BYTES

# From this number of parties on, MPyC runs without pseudorandom secret sharing (PRSS), unless --mpyc says otherwise.
# PRSS needs C(m, t) keys: at its start a party sends each peer 27 kB with 15 parties and 22 MB with 25, and it hashes
# all its keys for each random number. Without PRSS, parties send their randomness when it is needed.
NO_PRSS_FROM_PARTIES = 15

ALLOW_TYPE_DETAILS = (
    "Let parties send each other instances of a class that the program's own files define (__main__.Class for the "
    "script), with mpc.transfer. Any party can then create an instance with arguments and contents of its choice: read "
    "the class with that in mind. Numbers, texts, arrays and lists of them need no permission."
)


class Choice(Enum):
    """Who chooses the value of an agreed option."""

    HOST = "the host's: a joiner that leaves it open takes the host's value"
    EACH = "each party's: it cannot be taken back, so nobody takes it from the host"


class OptionKind(Enum):
    """What a person types for an option."""

    NUMBER = "one number"
    TEXTS = "any number of texts, one per use of the option"
    FILE = "a file of this party; the others see only whether there is one"


@dataclass(frozen=True, slots=True, eq=False)
class AgreedOption:
    """One option that must have the same value at all parties.

    Attributes:
        term: its field of `SharedTerms`, which is its name on the wire, in receipts and in JSON.
        wish: its field of `Wishes`.
        flags: its flags on the command line.
        name: its name in error messages and in docs/PROTOCOL.md.
        help: its help text, one or two lines of an 80-column terminal.
        default: returns the value that a host uses if none was given, for a number of parties.
        shown: yields the lines of the agreement screen, as pairs of label and text; none if there is nothing to say.
        bounds: the smallest and the largest number.
        for_session: True if the value stays for all computations of a session, since its links were built for it.
        private: True if the option concerns privacy, False if it concerns what runs.
        details: what the reference adds to `help`.
    """

    term: str
    wish: str
    flags: tuple[str, ...]
    metavar: str
    name: str
    kind: OptionKind
    help: str
    default: Callable[[int], Any]
    shown: Callable[[SharedTerms], Iterator[tuple[str, str]]]
    choice: Choice = Choice.HOST
    bounds: tuple[int, int] | None = None
    for_session: bool = False
    private: bool = False
    details: str = ""


def default_threshold(parties: int) -> int:
    """Return the largest t that an honest majority allows."""
    return (parties - 1) // 2


def default_mpyc_options(parties: int) -> tuple[str, ...]:
    """Return the MPyC options of a session whose host chose none."""
    return ("--no-prss",) if parties >= NO_PRSS_FROM_PARTIES else ()


def _show_nothing(_terms: SharedTerms) -> Iterator[tuple[str, str]]:
    yield from ()


def _show_arguments(terms: SharedTerms) -> Iterator[tuple[str, str]]:
    if terms.public_arguments:
        yield "arguments", " ".join(map(printable, terms.public_arguments))


def _show_mpyc_options(terms: SharedTerms) -> Iterator[tuple[str, str]]:
    if terms.mpyc_options:
        yield "MPyC options", ", ".join(map(printable, terms.mpyc_options))


def _show_types(terms: SharedTerms) -> Iterator[tuple[str, str]]:
    if terms.allowed_types:
        yield "may be sent", ", ".join(map(printable, terms.allowed_types))
        yield "", "classes of the program: any party can create instances with contents of its choice"


def _show_padding(terms: SharedTerms) -> Iterator[tuple[str, str]]:
    if terms.padding_rate:
        # Counts tor's cells; TLS adds a little on the wire.
        each_way = (len(terms.addresses) - 1) * terms.padding_rate * CELL_BYTES / 1000
        what = f"{terms.padding_rate} records of {FILLED_RECORD_BYTES} bytes a second on each link, both ways"
        yield "padding", f"{what}; {each_way:.1f} kB/s out and as much in"


def _show_circuits(terms: SharedTerms) -> Iterator[tuple[str, str]]:
    # A padded link has one circuit; see `circuits_of_link`.
    if terms.circuits > 1 and not terms.padding_rate:
        what = f"{terms.circuits} race for each link, if both its parties allow that many"
        yield "circuits", f"{what}; urgent data takes the fastest"


def _show_receipt(terms: SharedTerms) -> Iterator[tuple[str, str]]:
    if terms.receipt:
        yield "receipt", "when all are done, each party signs these terms and a salted digest of its output"


AGREED_OPTIONS = (
    AgreedOption(
        term="threshold",
        wish="threshold",
        flags=("--threshold", "-t"),
        metavar="T",
        name="threshold",
        kind=OptionKind.NUMBER,
        help="Any T+1 parties together can read every input. Default: the largest T below M/2.",
        default=default_threshold,
        shown=_show_nothing,  # the last lines of the screen say what it means
        private=True,
    ),
    AgreedOption(
        term="public_arguments",
        wish="public",
        flags=("--public",),
        metavar="ARG",
        name="public arguments",
        kind=OptionKind.TEXTS,
        help="A program argument that is the same at all parties. Repeatable.",
        default=lambda _parties: (),
        shown=_show_arguments,
        details="Public arguments come before each party's private ones.",
    ),
    AgreedOption(
        term="mpyc_options",
        wish="mpyc_options",
        flags=("--mpyc",),
        metavar="OPTION",
        name="MPyC options",
        kind=OptionKind.TEXTS,
        help="An MPyC option that all parties use, as in --mpyc=-L64. Repeatable.",
        default=default_mpyc_options,
        shown=_show_mpyc_options,
        details=(
            "One of -L64, -K40 (with other numbers), --no-prss and --mix32-64bit. Default: --no-prss from 15 parties "
            "on, since the keys of MPyC's pseudorandom secret sharing take 27 kB per peer there and 22 MB at 25. "
            "--mpyc=-L32, which is MPyC's own default, keeps them."
        ),
    ),
    AgreedOption(
        term="allowed_types",
        wish="allowed_types",
        flags=("--allow-type",),
        metavar="MODULE.CLASS",
        name="allowed types",
        kind=OptionKind.TEXTS,
        help="Let parties send each other instances of this class of the program. Repeatable.",
        default=lambda _parties: (),
        shown=_show_types,
        details=ALLOW_TYPE_DETAILS,
    ),
    AgreedOption(
        term="padding_rate",
        wish="padding",
        flags=("--padding",),
        metavar="RATE",
        name="padding rate",
        kind=OptionKind.NUMBER,
        help="Hide when and how much you send: RATE records a second on each link. Default: 0.",
        default=lambda _parties: 0,
        shown=_show_padding,
        bounds=(0, MAX_PADDING_RATE),
        for_session=True,
        private=True,
        details=(
            "Send a constant RATE (1 to 200) of fixed-size records on each link, both ways, so that an observer cannot "
            "see when or how much the program sends. A record has 498 bytes, of which the program can use 449 to 468. "
            "Its data waits for the next record."
        ),
    ),
    AgreedOption(
        term="circuits",
        wish="circuits",
        flags=("--circuits",),
        metavar="K",
        name="circuits per link",
        kind=OptionKind.NUMBER,
        help="Race each link over K circuits (1 to 8). Default: 3; 1 with --padding.",
        default=lambda _parties: DEFAULT_CIRCUITS,
        shown=_show_circuits,
        bounds=(1, MAX_CIRCUITS),
        for_session=True,
        private=True,
        details=(
            "Urgent data takes the fastest circuit, and up to 4 carry bulk data. Each circuit is one more draw of "
            "relays at both ends. A link uses the smaller of its two parties' limits. Default: 3; 1 with long."
        ),
    ),
    AgreedOption(
        term="receipt",
        wish="receipt",
        flags=("--receipt",),
        metavar="FILE",
        name="receipt",
        kind=OptionKind.FILE,
        help="Have all parties sign the terms and their outputs; keep the receipt in FILE.",
        default=lambda _parties: False,
        shown=_show_receipt,
        choice=Choice.EACH,
        for_session=True,
        private=True,
        details=(
            "Each party signs what was agreed and a salted digest of what its program wrote to standard output, which "
            "is then a pipe. See: onionmpc verify. A receipt permanently proves that your address took part. Without "
            "one, you can deny it. Each party must ask for it."
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What one party asks for. None leaves an option to the host, except for `receipt`, where it means no receipt.

    Attributes:
        public: public arguments of the program.
        allowed_types: full names of classes of the program that peers may send.
        padding: records a second on each link.
        circuits: how many circuits race for each link.
        receipt: the file for this party's receipt.
    """

    threshold: int | None = None
    public: tuple[str, ...] | None = ()
    mpyc_options: tuple[str, ...] | None = ()
    allowed_types: tuple[str, ...] | None = ()
    padding: int | None = None
    circuits: int | None = None
    receipt: Path | None = None

    def check(self) -> None:
        """Check that each wish is within its bounds and that no two exclude each other.

        Raises:
            UsageError: a wish is out of bounds, or two wishes exclude each other.
        """
        for option in AGREED_OPTIONS:
            wish = getattr(self, option.wish)
            if option.bounds is not None and wish is not None and not option.bounds[0] <= wish <= option.bounds[1]:
                raise UsageError(f"{option.name}: {wish}, expected {option.bounds[0]} to {option.bounds[1]}")
        if self.padding and (self.circuits or 1) > 1:
            raise UsageError("a padded link has one circuit", hint="leave out circuits=, or padding=")

    def as_host(self, parties: int) -> dict[str, Any]:
        """Return the value of each agreed option, by its term, for a party that follows no host."""
        values = {option: self._own(option) for option in AGREED_OPTIONS}
        return {
            option.term: option.default(parties) if value in (None, ()) else value for option, value in values.items()
        }

    def as_joiner(self, host: SharedTerms) -> dict[str, Any]:
        """Return the value of each agreed option, by its term. The host's value fills what this party left open."""
        values = {option.term: self._own(option) for option in AGREED_OPTIONS}
        return {term: getattr(host, term) if value is None else value for term, value in values.items()}

    def _own(self, option: AgreedOption) -> Any:  # noqa: ANN401 (an option's value)
        wish = getattr(self, option.wish)
        return wish is not None if option.choice is Choice.EACH else wish


class WishOptions(TypedDict, total=False):
    """The fields of `Wishes` as keyword options of the Python API."""

    threshold: int | None
    public: Sequence[str]
    mpyc_options: Sequence[str]
    allowed_types: Sequence[str]
    padding: int | None
    circuits: int | None
    receipt: str | os.PathLike[str] | None


def wishes_of(options: Wishes, *, joins_host: bool) -> dict[str, Any]:
    """Return the fields of these wishes. A joiner leaves each option that it did not set to the host."""
    values = {field.name: getattr(options, field.name) for field in fields(Wishes)}
    return {name: None if joins_host and value == () else value for name, value in values.items()}


def agreed_values(terms: SharedTerms) -> dict[str, Any]:
    """Return the value of each agreed option, by its term."""
    return {option.term: getattr(terms, option.term) for option in AGREED_OPTIONS}
