"""Turns what the Python API gives into what the page shows. Pure.

A program's output and all that peers say is made printable here: nothing of it can move text or look like the page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

import onionmpc
from onionmpc.app.state import ConsentView, FailureView, FieldView, PersonView, ProgramCard, ResultView, Sentence
from onionmpc.text import printable

MAX_OUTPUT_CHARACTERS = 2**20
YOU = "you"


def card_of(program: onionmpc.ProgramInfo) -> ProgramCard:
    """Return the card of a program."""
    public = tuple(field_of(question) for question in program.public)
    return ProgramCard(program.name, program.title, program.reveals, program.min_parties, public)


def field_of(question: onionmpc.InputQuestion, *, refused: str = "", unusual: str = "") -> FieldView:
    """Return a field of a form.

    Args:
        refused: why the value that was given is not accepted.
        unusual: what the program's author asks about the value that was given.
    """
    return FieldView(
        question.name,
        question.label,
        question.help,
        question.expected,
        tuple(map(printable, question.choices)),
        question.optional,
        question.is_file,
        refused,
        unusual,
    )


def consent_of(proposal: onionmpc.Proposal) -> ConsentView:
    """Return what this person is asked to agree to."""
    lines = tuple(proposal.text.split("\n"))
    view = ConsentView(
        "", tuple(_people(proposal)), tuple(_sentences(proposal)), _after_blank(lines), lines, proposal.fingerprint
    )
    shown = hashlib.sha256(proposal.session.encode() + msgspec.json.encode(view)).hexdigest()
    return msgspec.structs.replace(view, shown=shown)


def _people(proposal: onionmpc.Proposal) -> list[PersonView]:
    seats = {seat.number: seat for seat in proposal.seats}
    people = []
    for number, onion in enumerate(proposal.parties):
        if number == proposal.number:
            people.append(PersonView(number, onion, "", YOU))
        else:
            seat = seats[number]
            people.append(PersonView(number, onion, ", ".join(seat.names), seat.standing.value, seat.words))
    return people


def _sentences(proposal: onionmpc.Proposal) -> list[Sentence]:
    parties, readers = len(proposal.parties), proposal.threshold + 1
    sentences = [
        Sentence("consent.reveals", {"what": proposal.reveals})
        if proposal.reveals
        else Sentence("consent.reveals.unsaid"),
        Sentence("consent.nothing", {})
        if proposal.threshold == 0
        else Sentence("consent.readers", {"readers": readers, "parties": parties}),
        Sentence("consent.receipt" if proposal.options["receipt"] else "consent.deniable"),
    ]
    if proposal.by_invite:
        sentences.append(Sentence("consent.compare"))
    return sentences


def _after_blank(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Return what the agreement warns of: the lines after the blank one."""
    return tuple(line for line in lines[lines.index("") + 1 :] if line.strip()) if "" in lines else ()


def result_of(result: onionmpc.Result) -> ResultView:
    """Return what a computation gave this person."""
    text = _lines(result.outputs[:MAX_OUTPUT_CHARACTERS])
    flaw = "" if result.flaw is None else printable(result.flaw.message, 1000)
    return ResultView(text, is_cut=len(result.outputs) > MAX_OUTPUT_CHARACTERS, flaw=flaw)


def failure_of(error: onionmpc.OnionMPCError) -> FailureView:
    """Return why a session failed."""
    return FailureView(printable(error.message, 1000), printable(error.hint, 1000))


def names_in(contacts: Mapping[str, onionmpc.Contact]) -> dict[str, str]:
    """Return this person's own names, by address."""
    return {contact.onion: contact.name for contact in contacts.values()}


def _lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))
