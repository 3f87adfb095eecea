"""The terms that a party proposes, and those that it accepts from a host or another proposer.

Rules: docs/PROTOCOL.md section 4.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

from onionmpc.errors import AgreementError, RemoteProtocolError, UsageError
from onionmpc.identity import Onion
from onionmpc.program.code.catalogue import Program, explain_difference, find_shipped
from onionmpc.program.inputs import check_public
from onionmpc.session.agreement import SharedTerms
from onionmpc.session.comparison import check_equal
from onionmpc.session.local import (
    Plan,
    check_least_parties,
    check_mpyc_options,
    check_parties,
    shared_terms,
    threshold_of,
)
from onionmpc.text import printable


def program_of(plan: Plan) -> Program:
    """Return the program of a plan.

    Raises:
        UsageError: it names none.
    """
    if plan.program is None:
        raise UsageError("no program was named", hint="give a script, or one of `onionmpc programs`")
    return plan.program


def own_terms(plan: Plan, roster: Sequence[Onion], parties: int) -> SharedTerms:
    """Return the shared terms of a party that follows nobody.

    Args:
        roster: the addresses that are known by now.
        parties: m.

    Raises:
        UsageError: the plan does not fit this number of parties.
        UnsafeSetting: the terms would hide nothing.
    """
    program = program_of(plan)
    agreed = plan.as_host(parties) | {"threshold": threshold_of(plan, parties)}
    check_parties(parties, agreed["threshold"], allow_no_privacy=plan.allow_no_privacy)
    check_least_parties(program, parties)
    return shared_terms(program, plan.attached, roster, agreed)


def accept_terms(plan: Plan, theirs: SharedTerms, own: Onion, proposer: Onion) -> tuple[Program, SharedTerms]:
    """Check another party's terms against what this party has and wants. They fill what it left open.

    Raises:
        AgreementError: the terms differ from this party's, or the public arguments do not fit the program.
        UnsafeSetting: the terms would hide nothing.
        UsageError: the proposer chose an MPyC option that it may not choose.
    """
    program = plan.program or find_shipped(theirs.program)
    here, there = (f"party {theirs.addresses.index(onion)}" for onion in (own, proposer))
    if program is None:
        # Code is never taken from a peer. The program is one of our own catalogue, whose files are compared below,
        # or a local script.
        raise AgreementError(
            f"the program {printable(theirs.program)} does not come with this onionmpc",
            hint="get the script from the party that proposes it, read it, and give its path",
        )
    if plan.mpyc_options is None:
        # These become arguments of our MPyC: any other option could make it write files, or open connections.
        check_mpyc_options(theirs.mpyc_options)
    roster = [Onion(address) for address in theirs.addresses]
    common = shared_terms(program, plan.attached, roster, plan.as_joiner(theirs)).seating(theirs.strangers)
    explain = partial(explain_difference, program, plan.attached)
    check_equal(common, theirs, here=here, there=there, explain=explain)
    check_parties(len(theirs.addresses), common.threshold, allow_no_privacy=plan.allow_no_privacy)
    check_least_parties(program, len(theirs.addresses))
    _check_arguments(program, common)
    return program, common


def _check_arguments(program: Program, common: SharedTerms) -> None:
    """Check another party's public arguments against the block: another release of onionmpc may not have checked them.

    Raises:
        AgreementError: one is missing or not valid.
    """
    about = program.metadata.about
    if about is None:
        return
    try:
        check_public(about, common.public_arguments)
    except UsageError as error:
        raise AgreementError(
            f"the public arguments do not fit the program: {error.message}",
            hint="ask for other ones; onionmpc programs show explains what the program takes",
        ) from error


def check_proposal(theirs: SharedTerms, own: Onion, proposer: Onion, parties: Collection[Onion]) -> None:
    """Check the roster and threshold of proposed terms, as far as the parties need them to exchange offers at all.

    Args:
        parties: those of the session, even if they have left. The proposer may not know that yet.

    Raises:
        RemoteProtocolError: no honest party proposes this.
    """
    addresses = theirs.addresses
    if own not in addresses or proposer not in addresses:
        raise RemoteProtocolError("it proposed a roster without itself, or without a party that it sent this to")
    if not theirs.strangers <= set(addresses):
        raise RemoteProtocolError("it proposed uninvited parties that are not on its roster")
    if tuple(sorted(set(addresses))) != addresses or not set(parties).issuperset(addresses):
        raise RemoteProtocolError("it proposed a roster that is not in order, or has a party of another session")
    try:
        check_parties(len(addresses), theirs.threshold, allow_no_privacy=True)
    except UsageError as error:
        raise RemoteProtocolError(f"it proposed {error.message}") from error
