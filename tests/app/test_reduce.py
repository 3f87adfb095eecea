"""The state of the app follows from what has happened, whatever happens in whichever order."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc import events
from onionmpc.app import happenings
from onionmpc.app.reduce import MAX_NOTES, reduce
from onionmpc.app.state import (
    AppState,
    ConsentView,
    FailureView,
    FieldView,
    Presence,
    ResultView,
    Sentence,
    SessionStage,
    SessionView,
    TorStep,
)
from onionmpc.identity import Identity
from onionmpc.session.invite import Invite

ANNA, BERTA, CLARA = (Identity(bytes([number]) * 32).onion for number in (1, 2, 3))
INVITES = [Invite(ANNA, bytes([seat]) * 16) for seat in (1, 2)]
CONSENT = ConsentView("5a" * 32, (), (Sentence("consent.compare"),), (), ("  program  sum",), "ten words")
FORM = (FieldView("salary", "Your salary"),)
ROSTER = events.RosterKnown((ANNA, BERTA, CLARA), 0)
HAPPENINGS: list[Any] = [
    events.TorProgress("tor", 0, "starting"),
    events.TorProgress("bootstrap", 40, "loading"),
    events.TorProgress("publish", 100, "published"),
    happenings.TorStarted(),
    happenings.TorStopped(),
    happenings.TorStopped("tor was killed"),
    happenings.TableTaken(hosts=True, program="sum", title="A sum", parties=3),
    happenings.TableTaken(hosts=False, program=""),
    happenings.InvitationCopied(1),
    happenings.InvitationCopied(7),
    happenings.JoinerAsks(1, BERTA, "berta"),
    happenings.JoinerAsks(2, CLARA, ""),
    happenings.JoinerAnswered(1),
    happenings.ConsentAsked(CONSENT, "sum", "A sum", 1, 12.5),
    happenings.ConsentGiven(FORM),
    happenings.ConsentGiven(),
    happenings.FormChecked((msgspec.structs.replace(FORM[0], refused="not a number"),)),
    happenings.InputsTaken(),
    happenings.Computed(ResultView("6\n")),
    happenings.Failed(FailureView("party 2 left", revealed=False)),
    happenings.SessionEnded("the host left"),
    happenings.SessionCleared(),
    happenings.LinkUsedTwice(),
    events.AddressKnown(ANNA),
    events.Published(to_all=False),
    events.InviteReady(1, INVITES[0]),
    events.InviteReady(2, INVITES[1]),
    events.JoinerArrived(1, BERTA, 2, 3),
    events.JoinerArrived(2, CLARA, 3, 3),
    events.JoinerLeft(1, BERTA),
    events.SeatsTaken(2, 3),
    events.SpentInvite(1),
    ROSTER,
    events.RosterKnown((ANNA, CLARA), 0),
    events.LinkUp(1, 1, 2),
    events.LinkUp(2, 2, 2),
    events.LinkMeasured(1, 4, 3, 0.4, 1),
    events.LinkBroken(1, "the circuit was closed"),
    events.PeerQuiet(1, 20.0),
    events.LinkResumed(1, 3.0),
    events.Agreed(bytes(32)),
    events.ProgramEnded(1.0),
    events.PeerDone(1),
    events.Proposed(1, "sort"),
    events.Left(2),
    events.Signing(),
    events.Rounding(4.0),
    events.ProgramsStuck(0, (), 30.0),
    events.ProgramsMove(),
    events.DialRetry(None, "no descriptor", 2.0, "the invite may be used"),
    events.OtherVersion(4),
    events.Trouble("party 2 broke the rules: \x1b[2J\u202e"),
]
NOW = 1_000_000


def after(*what: Any, state: AppState | None = None) -> AppState:
    """The state after these happenings, a second apart."""
    state = state or AppState()
    for number, one in enumerate(what):
        state = reduce(state, one, NOW + 1000 * number)
    return state


def session(state: AppState) -> SessionView:
    """The session of a state that must have one."""
    assert state.session is not None
    return state.session


HOSTING = (
    happenings.TableTaken(hosts=True, program="sum", title="A sum", parties=3),
    events.AddressKnown(ANNA),
    events.InviteReady(1, INVITES[0]),
    events.InviteReady(2, INVITES[1]),
    events.Published(to_all=False),
)
SEATED = (
    *HOSTING,
    happenings.JoinerAsks(1, BERTA, "berta"),
    happenings.JoinerAnswered(1),
    events.JoinerArrived(1, BERTA, 2, 3),
    happenings.JoinerAsks(2, CLARA, ""),
    happenings.JoinerAnswered(2),
    events.JoinerArrived(2, CLARA, 3, 3),
    ROSTER,
    events.LinkUp(1, 1, 2),
    events.LinkUp(2, 2, 2),
)
RUN = (
    happenings.ConsentAsked(CONSENT, "sum", "A sum", 1, 12.5),
    happenings.ConsentGiven(FORM),
    happenings.InputsTaken(),
    events.Agreed(bytes(32)),
    events.ProgramEnded(1.0),
    events.PeerDone(1),
    events.PeerDone(2),
    happenings.Computed(ResultView("6\n")),
)


def test_a_hosts_session_goes_through_its_stages() -> None:
    stages: list[SessionStage] = []
    state = AppState()
    for one in (*SEATED, *RUN):
        state = reduce(state, one, NOW)
        if stages[-1:] != [session(state).stage]:
            stages.append(session(state).stage)
    assert stages == [
        SessionStage.STARTING,
        SessionStage.GATHERING,
        SessionStage.CONNECTING,
        SessionStage.CONSENT,
        SessionStage.INPUT,
        SessionStage.WAITING,
        SessionStage.COMPUTING,
        SessionStage.FINISHING,
        SessionStage.RESULT,
    ]
    assert session(state).result == ResultView("6\n")
    assert [party.name for party in session(state).parties] == ["", "berta", ""]
    assert [party.presence for party in session(state).parties[1:]] == [Presence.CONNECTED] * 2


def test_each_stage_says_since_when_it_lasts() -> None:
    state = after(*HOSTING)
    assert session(state).since == NOW + 1000 * (len(HOSTING) - 1)
    later = reduce(state, events.SpentInvite(1), NOW + 99_000)
    assert (session(later).since, later.now) == (session(state).since, NOW + 99_000)


def test_an_invite_is_gone_once_it_is_used_and_when_the_session_is_over() -> None:
    texts = [invite.text for invite in INVITES]
    assert [seat.invitation for seat in session(after(*HOSTING)).seats] == texts
    arrived = after(*HOSTING, events.JoinerArrived(1, BERTA, 2, 3))
    assert [seat.invitation for seat in session(arrived).seats] == ["", texts[1]]
    for end in (happenings.Failed(FailureView("no")), happenings.SessionEnded(), happenings.SessionCleared()):
        shown = msgspec.json.encode(reduce(arrived, end, NOW)).decode()
        assert "onionmpc1" not in shown


def test_a_refused_joiner_leaves_a_seat_with_a_new_invite() -> None:
    again = after(*HOSTING, happenings.JoinerAsks(1, BERTA, ""), events.InviteReady(1, INVITES[1]))
    seat = session(again).seats[0]
    assert (seat.holder, seat.invitation, seat.copied) == ("", INVITES[1].text, False)


def test_a_joiner_that_leaves_frees_its_seat() -> None:
    state = after(*HOSTING, events.JoinerArrived(1, BERTA, 2, 3), events.JoinerLeft(1, BERTA))
    assert (session(state).came, session(state).seats[0].holder) == (1, "")


def test_consent_that_comes_too_late_changes_nothing() -> None:
    state = after(*SEATED, *RUN)
    assert reduce(state, happenings.ConsentGiven(FORM), NOW) is state
    assert reduce(state, happenings.InputsTaken(), NOW) is state


def test_a_further_computation_keeps_names_and_drops_who_is_not_in_it() -> None:
    state = after(*SEATED, *RUN, events.Left(2), events.RosterKnown((ANNA, BERTA), 0))
    assert [(party.number, party.name) for party in session(state).parties] == [(0, ""), (1, "berta")]
    assert session(state).stage is SessionStage.RESULT
    asked = reduce(state, happenings.ConsentAsked(CONSENT, "sort", "A sort", 2), NOW)
    assert (session(asked).stage, session(asked).result, session(asked).computation) == (SessionStage.CONSENT, None, 2)


def test_what_others_say_is_printable_and_bounded() -> None:
    state = after(*HOSTING, events.Trouble("x\x1b[2J\u202e" + "y" * 5000))
    (note,) = session(state).notes
    words = str(note.values["words"])
    assert words.isprintable()
    assert len(words) < 600
    many = after(*[events.Trouble(str(number)) for number in range(100)], state=after(*HOSTING))
    assert len(session(many).notes) == MAX_NOTES


@pytest.mark.parametrize(
    ("what", "step"),
    [
        (happenings.TorStarted(), TorStep.STARTING),
        (events.TorProgress("bootstrap", 40, "loading"), TorStep.BOOTSTRAP),
        (happenings.TorStopped(), TorStep.OFF),
        (happenings.TorStopped("killed"), TorStep.FAILED),
    ],
)
def test_the_steps_of_tor(what: Any, step: TorStep) -> None:
    assert after(what).tor.step is step


def test_tor_counts_as_unchanged_while_its_percentage_stays() -> None:
    state = after(happenings.TorStarted(), events.TorProgress("bootstrap", 40, "a"))
    again = reduce(state, events.TorProgress("bootstrap", 40, "b"), NOW + 60_000)
    assert (again.tor.changed, again.tor.detail) == (NOW + 1000, "b")


def test_every_kind_of_happening_is_tried_here() -> None:
    kinds = {type(one) for one in HAPPENINGS}
    missing = set(happenings.Happening.__args__) - kinds
    # The result names the receipt's file, and the failure says why seats were refused.
    assert missing == {events.ReceiptWritten, events.OutOfReach, events.SeatsRefused}


@given(st.lists(st.sampled_from(HAPPENINGS), max_size=40))
def test_any_order_of_happenings_gives_a_state_that_can_be_sent(what: list[Any]) -> None:
    state = AppState()
    for number, one in enumerate(what):
        before, state = state, reduce(state, one, NOW + number)
        assert state.number == before.number + (state is not before)
        assert state is before or state.number > before.number
        if state.session is None:
            continue
        shown = state.session
        assert (shown.form != ()) <= (shown.stage is SessionStage.INPUT)
        assert (shown.stage is SessionStage.RESULT) <= (shown.result is not None)
        assert (shown.stage is SessionStage.CONSENT) <= (shown.consent is not None)
        assert shown.failure is None or shown.stage is SessionStage.OVER
        assert all(not seat.invitation for seat in shown.seats if seat.admitted or shown.stage is SessionStage.OVER)
    assert msgspec.json.decode(msgspec.json.encode(state), type=AppState) == state


@given(st.lists(st.sampled_from(HAPPENINGS), max_size=30), st.sampled_from(HAPPENINGS))
def test_a_session_that_is_over_stays_as_it_is(what: list[Any], late: Any) -> None:
    over = after(*HOSTING, *what, happenings.SessionEnded("it is over"))
    if over.session is None or isinstance(late, happenings.TableTaken | happenings.SessionCleared):
        return
    assert reduce(over, late, NOW).session == session(over)
