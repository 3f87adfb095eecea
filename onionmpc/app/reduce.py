"""`reduce(state, happening, now)` makes the next state of the app. Pure: no clock, no tasks, no files.

What has no effect on what is shown leaves the state as it is, and so does what comes too late, such as an event of a
session that is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from onionmpc import events
from onionmpc.app import happenings
from onionmpc.app.happenings import Happening
from onionmpc.app.state import (
    AppState,
    PartyView,
    Presence,
    SeatView,
    Sentence,
    SessionStage,
    SessionView,
    TorStep,
    TorView,
)
from onionmpc.text import printable

MAX_NOTES = 20
MAX_NOTE_CHARACTERS = 500

Step = Callable[[SessionView, Any, int], SessionView]


def reduce(state: AppState, happening: Happening, now: int) -> AppState:
    """Return the state after something has happened.

    Args:
        now: milliseconds of Unix time.
    """
    after = _after(state, happening, now)
    return state if after is state else replace(after, number=state.number + 1, now=now)


def _after(state: AppState, happening: Happening, now: int) -> AppState:
    match happening:
        case events.TorProgress() | happenings.TorStarted() | happenings.TorStopped():
            tor = _tor(state.tor, happening, now)
            return state if tor == state.tor else replace(state, tor=tor)
        case events.Published() if state.tor.step is not TorStep.READY:
            state = replace(state, tor=replace(state.tor, step=TorStep.READY, percent=100, changed=now))
        case happenings.TableTaken(hosts, program, title, parties):
            return replace(state, session=SessionView(hosts, program, title, parties, since=now))
        case happenings.LinkUsedTwice():
            return replace(state, link_used_twice=True)
        case happenings.SessionCleared():
            return state if state.session is None else replace(state, session=None)
    session, step = state.session, _STEPS.get(type(happening))
    if session is None or step is None or session.stage is SessionStage.OVER:
        return state
    after = step(session, happening, now)
    if after.stage is not session.stage:
        after = replace(after, since=now)
    return state if after == session else replace(state, session=after)


# -- tor


def _tor(tor: TorView, happening: object, now: int) -> TorView:
    match happening:
        case happenings.TorStarted():
            return TorView(TorStep.STARTING, since=now, changed=now)
        case happenings.TorStopped(reason):
            return TorView(TorStep.FAILED, detail=reason, changed=now) if reason else TorView()
        case events.TorProgress(phase, percent, detail):
            step = {"tor": TorStep.STARTING, "bootstrap": TorStep.BOOTSTRAP, "publish": TorStep.PUBLISH}[phase]
            moved = (step, percent) != (tor.step, tor.percent)
            return replace(tor, step=step, percent=percent, detail=detail, changed=now if moved else tor.changed)
    return tor


# -- people come to the table


def _address(session: SessionView, event: events.AddressKnown, _now: int) -> SessionView:
    return replace(session, address=event.onion)


def _published(session: SessionView, _event: events.Published, _now: int) -> SessionView:
    return replace(session, stage=SessionStage.GATHERING) if session.stage is SessionStage.STARTING else session


def _invited(session: SessionView, event: events.InviteReady, _now: int) -> SessionView:
    # A new invite for a seat: its last holder was refused.
    others = [seat for seat in session.seats if seat.number != event.seat]
    seats = sorted([*others, SeatView(event.seat, event.invite.text)], key=lambda seat: seat.number)
    return replace(session, seats=tuple(seats))


def _copied(session: SessionView, happening: happenings.InvitationCopied, _now: int) -> SessionView:
    return _with_seat(session, happening.seat, copied=True)


def _asks(session: SessionView, happening: happenings.JoinerAsks, _now: int) -> SessionView:
    session = _with_seat(session, happening.seat, holder=happening.address, name=happening.name)
    return replace(session, asks_about=happening.seat)


def _answered(session: SessionView, happening: happenings.JoinerAnswered, _now: int) -> SessionView:
    return replace(session, asks_about=0) if session.asks_about == happening.seat else session


def _arrived(session: SessionView, event: events.JoinerArrived, _now: int) -> SessionView:
    # The invite is used: nobody needs its text any more.
    session = _with_seat(session, event.seat, holder=event.onion, admitted=True, invitation="")
    return replace(session, came=event.taken, parties_wanted=event.parties)


def _joiner_left(session: SessionView, event: events.JoinerLeft, _now: int) -> SessionView:
    admitted = any(seat.number == event.seat and seat.admitted for seat in session.seats)
    session = _with_seat(session, event.seat, holder="", name="", admitted=False)
    session = _note(session, "note.seat", seat=event.seat)
    return replace(session, came=session.came - admitted)


def _seats_taken(session: SessionView, event: events.SeatsTaken, _now: int) -> SessionView:
    stage = SessionStage.GATHERING if session.stage is SessionStage.STARTING else session.stage
    return replace(session, came=event.taken, parties_wanted=event.parties, stage=stage)


def _spent(session: SessionView, event: events.SpentInvite, _now: int) -> SessionView:
    return _with_seat(session, event.seat, tried_again=True)


def _roster(session: SessionView, event: events.RosterKnown, now: int) -> SessionView:
    before = {party.address: party for party in session.parties}
    names = {seat.holder: seat.name for seat in session.seats if seat.holder}
    parties = tuple(
        PartyView(
            number,
            address,
            before[address].name if address in before else names.get(address, ""),
            is_you=number == event.own_number,
            presence=before[address].presence if address in before else Presence.AWAITED,
            since=now,
        )
        for number, address in enumerate(event.addresses)
    )
    further = bool(session.parties)
    stage = session.stage if further else SessionStage.CONNECTING
    return replace(session, parties=parties, parties_wanted=len(parties), came=len(parties), stage=stage)


# -- the links


def _present(presence: Presence) -> Step:
    def step(session: SessionView, event: Any, now: int) -> SessionView:  # noqa: ANN401 (any event of a party)
        return _with_presence(session, [event.party], presence, now)

    return step


def _done(session: SessionView, event: events.PeerDone, now: int) -> SessionView:
    return _with_presence(session, [event.party], Presence.DONE, now)


def _left(session: SessionView, event: events.Left, now: int) -> SessionView:
    return _note(_with_presence(session, [event.party], Presence.LEFT, now), "note.left", party=event.party)


# -- a computation


def _asked(session: SessionView, happening: happenings.ConsentAsked, _now: int) -> SessionView:
    return replace(
        session,
        stage=SessionStage.CONSENT,
        consent=happening.consent,
        program=happening.program,
        title=happening.title,
        computation=happening.computation,
        estimate_s=happening.estimate_s,
        form=(),
        result=None,
    )


def _agreed_here(session: SessionView, happening: happenings.ConsentGiven, _now: int) -> SessionView:
    if session.stage is not SessionStage.CONSENT:
        return session
    return replace(session, stage=SessionStage.INPUT if happening.form else SessionStage.WAITING, form=happening.form)


def _checked(session: SessionView, happening: happenings.FormChecked, _now: int) -> SessionView:
    return replace(session, form=happening.form) if session.stage is SessionStage.INPUT else session


def _given(session: SessionView, _happening: happenings.InputsTaken, _now: int) -> SessionView:
    return replace(session, stage=SessionStage.WAITING, form=()) if session.stage is SessionStage.INPUT else session


def _agreed(session: SessionView, _event: events.Agreed, _now: int) -> SessionView:
    return replace(session, stage=SessionStage.COMPUTING, form=())


def _program_ended(session: SessionView, _event: events.ProgramEnded, _now: int) -> SessionView:
    return replace(session, stage=SessionStage.FINISHING)


def _computed(session: SessionView, happening: happenings.Computed, now: int) -> SessionView:
    done = [party.number for party in session.parties if party.presence is Presence.DONE]
    session = _with_presence(session, done, Presence.CONNECTED, now)
    return replace(session, stage=SessionStage.RESULT, result=happening.result, form=())


def _failed(session: SessionView, happening: happenings.Failed, _now: int) -> SessionView:
    return _over(replace(session, failure=happening.failure))


def _ended(session: SessionView, happening: happenings.SessionEnded, _now: int) -> SessionView:
    return _over(_note(session, "note.words", words=happening.why) if happening.why else session)


def _over(session: SessionView) -> SessionView:
    # An invite opens nothing any more, and nobody is asked anything.
    seats = tuple(replace(seat, invitation="") for seat in session.seats)
    return replace(session, stage=SessionStage.OVER, seats=seats, asks_about=0, form=())


# -- what is worth a note


def _trouble(session: SessionView, event: events.Trouble, _now: int) -> SessionView:
    return _note(session, "note.words", words=event.what)


def _stuck(session: SessionView, event: events.ProgramsStuck, _now: int) -> SessionView:
    return _note(session, "note.stuck", seconds=round(event.ends_in_s))


def _other_version(session: SessionView, event: events.OtherVersion, _now: int) -> SessionView:
    return _note(session, "note.version", protocol=event.protocol)


def _retry(session: SessionView, event: events.DialRetry, _now: int) -> SessionView:
    return _note(session, "note.words", words=event.hint) if event.hint else session


# -- parts of a session


def _with_seat(session: SessionView, number: int, **changes: Any) -> SessionView:  # noqa: ANN401 (fields of a seat)
    return replace(session, seats=_changed(session.seats, [number], **changes))


def _with_presence(session: SessionView, numbers: Iterable[int], presence: Presence, now: int) -> SessionView:
    waiting = [party.number for party in session.parties if party.presence is not presence]
    numbers = [number for number in numbers if number in waiting]
    return replace(session, parties=_changed(session.parties, numbers, presence=presence, since=now))


def _changed(views: tuple[Any, ...], numbers: Iterable[int], **changes: Any) -> tuple[Any, ...]:  # noqa: ANN401
    return tuple(replace(view, **changes) if view.number in numbers else view for view in views)


def _note(session: SessionView, key: str, **values: str | int) -> SessionView:
    note = Sentence(key, {name: _safe(value) for name, value in values.items()})
    if session.notes[-1:] == (note,):
        return session
    return replace(session, notes=(*session.notes, note)[-MAX_NOTES:])


def _safe(value: str | int) -> str | int:
    return printable(value, MAX_NOTE_CHARACTERS) if isinstance(value, str) else value


_STEPS: dict[type, Step] = {
    events.AddressKnown: _address,
    events.Published: _published,
    events.InviteReady: _invited,
    happenings.InvitationCopied: _copied,
    happenings.JoinerAsks: _asks,
    happenings.JoinerAnswered: _answered,
    events.JoinerArrived: _arrived,
    events.JoinerLeft: _joiner_left,
    events.SeatsTaken: _seats_taken,
    events.SpentInvite: _spent,
    events.RosterKnown: _roster,
    events.LinkUp: _present(Presence.CONNECTED),
    events.LinkResumed: _present(Presence.CONNECTED),
    events.LinkBroken: _present(Presence.AWAY),
    events.PeerQuiet: _present(Presence.QUIET),
    events.PeerDone: _done,
    events.Left: _left,
    happenings.ConsentAsked: _asked,
    happenings.ConsentGiven: _agreed_here,
    happenings.FormChecked: _checked,
    happenings.InputsTaken: _given,
    events.Agreed: _agreed,
    events.ProgramEnded: _program_ended,
    happenings.Computed: _computed,
    happenings.Failed: _failed,
    happenings.SessionEnded: _ended,
    events.Trouble: _trouble,
    events.ProgramsStuck: _stuck,
    events.OtherVersion: _other_version,
    events.DialRetry: _retry,
}
