"""Multiparty computation between parties who never learn each other's IP address.

A party hosts a session like this::

    import asyncio, onionmpc

    async def main():
        async with onionmpc.party() as me:
            async with me.host("average-salary", parties=3) as table:
                for invite in table.invites:
                    send_privately(str(invite))
                result = await table.compute(input="4200", consent=ask)
                print(result.outputs)

`ask` is a coroutine function that gets a `Proposal` and returns whether to compute on its terms. The other parties do
the same with `me.join(invite)`. When an `async with` block ends, even by cancellation, nothing of it remains: no tor,
no program process and no temporary file.

`onionmpc.errors` has the errors, sorted by who can fix them; `OnionMPCError` is the base of all. `onionmpc.events` has
the events. The names in `__all__` keep their meaning within a major version (semantic versioning). Other modules may
change at any time.

onionmpc does not change the process that imports it: no signal handlers, no log handlers, no limits. If you want the
protections that the command line sets for its own process, set them yourself: see docs/THREATS.md, "In another
program's process".
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onionmpc import errors as errors
    from onionmpc.api import events as events
    from onionmpc.api.contacts import Contact as Contact
    from onionmpc.api.contacts import contacts as contacts
    from onionmpc.api.inputs import ALLOW_UNUSUAL as ALLOW_UNUSUAL
    from onionmpc.api.inputs import InputQuestion as InputQuestion
    from onionmpc.api.inputs import UnusualInput as UnusualInput
    from onionmpc.api.options import SessionOptions as SessionOptions
    from onionmpc.api.outcome import Result as Result
    from onionmpc.api.outcome import Times as Times
    from onionmpc.api.party import OpenIdentity as OpenIdentity
    from onionmpc.api.party import Party as Party
    from onionmpc.api.party import open_identity as open_identity
    from onionmpc.api.party import party as party
    from onionmpc.api.policy import Policy as Policy
    from onionmpc.api.policy import load_policy as load_policy
    from onionmpc.api.programs import ProgramInfo as ProgramInfo
    from onionmpc.api.programs import arguments_for as arguments_for
    from onionmpc.api.programs import programs as programs
    from onionmpc.api.questions import ADMIT_ANYONE as ADMIT_ANYONE
    from onionmpc.api.questions import AGREE_TO_ANYTHING as AGREE_TO_ANYTHING
    from onionmpc.api.questions import AllowedBy as AllowedBy
    from onionmpc.api.questions import Joiner as Joiner
    from onionmpc.api.questions import Proposal as Proposal
    from onionmpc.api.table import HostTable as HostTable
    from onionmpc.api.table import Table as Table
    from onionmpc.api.testnet import private_network as private_network
    from onionmpc.errors import OnionMPCError as OnionMPCError
    from onionmpc.levels import Level as Level
    from onionmpc.names.address_book import Meetings as Meetings
    from onionmpc.names.standing import Seat as Seat
    from onionmpc.names.standing import Standing as Standing
    from onionmpc.program.spec import Walls as Walls
    from onionmpc.session.agreement import Agreement as Agreement
    from onionmpc.session.agreement import PartyTerms as PartyTerms
    from onionmpc.session.agreement import SharedTerms as SharedTerms
    from onionmpc.session.differences import Exposure as Exposure
    from onionmpc.session.invite import Invite as Invite
    from onionmpc.session.invite import parse_invite as parse_invite
    from onionmpc.session.ledger import LinkSummary as LinkSummary
    from onionmpc.session.receipt import Receipt as Receipt

__version__ = "0.1.0"

__all__ = [
    "ADMIT_ANYONE",
    "AGREE_TO_ANYTHING",
    "ALLOW_UNUSUAL",
    "Agreement",
    "AllowedBy",
    "Contact",
    "Exposure",
    "HostTable",
    "InputQuestion",
    "Invite",
    "Joiner",
    "Level",
    "LinkSummary",
    "Meetings",
    "OnionMPCError",
    "OpenIdentity",
    "Party",
    "PartyTerms",
    "Policy",
    "ProgramInfo",
    "Proposal",
    "Receipt",
    "Result",
    "Seat",
    "SessionOptions",
    "SharedTerms",
    "Standing",
    "Table",
    "Times",
    "UnusualInput",
    "Walls",
    "arguments_for",
    "contacts",
    "errors",
    "events",
    "load_policy",
    "open_identity",
    "parse_invite",
    "party",
    "private_network",
    "programs",
]

# The module of each name. Names are imported on first use: the program process and `onionmpc --help` import this
# package too, and need neither asyncio nor tor.
_MODULES = {
    "ADMIT_ANYONE": "api.questions",
    "AGREE_TO_ANYTHING": "api.questions",
    "ALLOW_UNUSUAL": "api.inputs",
    "Agreement": "session.agreement",
    "AllowedBy": "api.questions",
    "Contact": "api.contacts",
    "Exposure": "session.differences",
    "HostTable": "api.table",
    "InputQuestion": "api.inputs",
    "Invite": "session.invite",
    "Joiner": "api.questions",
    "Level": "levels",
    "LinkSummary": "session.ledger",
    "Meetings": "names.address_book",
    "OnionMPCError": "errors",
    "OpenIdentity": "api.party",
    "Party": "api.party",
    "PartyTerms": "session.agreement",
    "Policy": "api.policy",
    "ProgramInfo": "api.programs",
    "Proposal": "api.questions",
    "Receipt": "session.receipt",
    "Result": "api.outcome",
    "Seat": "names.standing",
    "SessionOptions": "api.options",
    "SharedTerms": "session.agreement",
    "Standing": "names.standing",
    "Table": "api.table",
    "Times": "api.outcome",
    "UnusualInput": "api.inputs",
    "Walls": "program.spec",
    "arguments_for": "api.programs",
    "contacts": "api.contacts",
    "load_policy": "api.policy",
    "open_identity": "api.party",
    "parse_invite": "session.invite",
    "party": "api.party",
    "private_network": "api.testnet",
    "programs": "api.programs",
}
_SUBMODULES = {"errors": "onionmpc.errors", "events": "onionmpc.api.events"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 (each has a type of its own, above)
    if name in _SUBMODULES:
        return importlib.import_module(_SUBMODULES[name])
    if name in _MODULES:
        return getattr(importlib.import_module(f"onionmpc.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
