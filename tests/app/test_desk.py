"""People who use the app alone: the desk does what the page asks for, over local sockets instead of tor."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from onionmpc.api.inputs import question_about
from onionmpc.api.party import Party
from onionmpc.app.desk import SessionDesk
from onionmpc.app.happenings import FormChecked, Happening, InputsTaken
from onionmpc.app.intents import (
    AnswerAgreement,
    AnswerJoiner,
    ClearSession,
    ComputeAgain,
    GiveInputs,
    LeaveSession,
    MarkCopied,
    StartHosting,
    StartJoining,
)
from onionmpc.app.sitting import Sitting
from onionmpc.app.state import AppState, SessionStage, SessionView
from onionmpc.errors import UsageError
from onionmpc.files import socket_directory
from onionmpc.identity import Identity
from onionmpc.program.block import IntegerField
from tests.support.api import local_party
from tests.support.session import new_identities, run

PROGRAM = "average_salary"
SALARIES = ("4000", "5000", "6000")


def desk_of(folder: Path, identity: Identity) -> SessionDesk:
    @contextlib.asynccontextmanager
    async def start(tell: Callable[[Happening], None]) -> AsyncIterator[Party]:
        async with local_party(folder, identity, tell) as me:
            yield me

    return SessionDesk(start, lambda: 0)


@contextlib.asynccontextmanager
async def desks(people: int = 3) -> AsyncIterator[list[SessionDesk]]:
    with socket_directory() as folder:
        all_desks = [desk_of(folder, identity) for identity in new_identities(people)]
        try:
            yield all_desks
        finally:
            for each in all_desks:
                await each.close()


def session(state: AppState) -> SessionView:
    assert state.session is not None
    return state.session


async def until(desk: SessionDesk, is_so: Callable[[SessionView], object]) -> SessionView:
    state = desk.state
    while state.session is None or not is_so(state.session):
        failure = state.session.failure if state.session is not None else None
        assert failure is None, failure
        state = await desk.changed(state)
    return state.session


async def stage(desk: SessionDesk, wanted: SessionStage) -> SessionView:
    return await until(desk, lambda view: view.stage is wanted)


async def seated(host: SessionDesk, joiners: list[SessionDesk]) -> None:
    """Have people join by the host's invitations, and the host admit each."""
    view = await until(host, lambda view: len(view.seats) == len(joiners))
    invitations = [seat.invitation for seat in view.seats]
    for joiner, invitation in zip(joiners, invitations, strict=True):
        await joiner.act(StartJoining(f"Hello!\n> {invitation[:40]}\n> {invitation[40:]}\nwww.example/a"))
        asked = await until(host, lambda view: view.asks_about)
        seat = next(seat for seat in asked.seats if seat.number == asked.asks_about)
        await host.act(AnswerJoiner(seat.number, seat.holder, admit=True))


async def agreed(desk: SessionDesk) -> None:
    view = await stage(desk, SessionStage.CONSENT)
    assert view.consent is not None
    await desk.act(AnswerAgreement(view.consent.shown, agree=True))


async def given(desk: SessionDesk, salary: str) -> None:
    view = await stage(desk, SessionStage.INPUT)
    await desk.act(GiveInputs({view.form[0].name: salary}))


async def computed(all_desks: list[SessionDesk]) -> None:
    for desk in all_desks:
        await agreed(desk)
    for desk, salary in zip(all_desks, SALARIES, strict=True):
        await given(desk, salary)
    for desk in all_desks:
        view = await stage(desk, SessionStage.RESULT)
        assert view.result is not None
        assert "5000" in view.result.text


def test_three_people_compute_twice_and_leave() -> None:
    async def main() -> None:
        async with desks() as all_desks:
            host, *joiners = all_desks
            await host.act(StartHosting(PROGRAM, 3))
            await seated(host, joiners)
            await computed(all_desks)
            await host.act(ComputeAgain())
            await computed(all_desks)
            assert session(host.state).computation == 2
            await joiners[0].act(LeaveSession())
            assert session(joiners[0].state).stage is SessionStage.OVER
            await until(host, lambda view: any(note.key == "note.left" for note in view.notes))
            await joiners[0].act(ClearSession())
            assert joiners[0].state.session is None

    run(main())


def test_who_declines_ends_the_session_for_all() -> None:
    async def main() -> None:
        async with desks() as all_desks:
            host, *joiners = all_desks
            await host.act(StartHosting(PROGRAM, 3))
            await seated(host, joiners)
            view = await stage(joiners[1], SessionStage.CONSENT)
            assert view.consent is not None
            await joiners[1].act(AnswerAgreement(view.consent.shown, agree=False))
            for desk in all_desks:
                state = desk.state
                while session(state).stage is not SessionStage.OVER:
                    state = await desk.changed(state)
                failure = session(state).failure
                assert failure is not None
                assert "declined" in failure.sentence

    run(main())


def test_an_answer_to_another_question_is_refused() -> None:
    async def main() -> None:
        async with desks() as all_desks:
            host, *joiners = all_desks
            await host.act(StartHosting(PROGRAM, 3))
            with pytest.raises(UsageError, match="a session is running"):
                await host.act(StartHosting(PROGRAM, 3))
            with pytest.raises(UsageError, match="too late"):
                await host.act(AnswerJoiner(1, "nobody", admit=True))
            await seated(host, joiners)
            await stage(host, SessionStage.CONSENT)
            with pytest.raises(UsageError, match="too late"):
                await host.act(AnswerAgreement("00" * 32, agree=True))
            with pytest.raises(UsageError, match="too late"):
                await host.act(GiveInputs({}))
            with pytest.raises(UsageError, match="too late"):
                await host.act(ComputeAgain())
            assert session(host.state).stage is SessionStage.CONSENT

    run(main())


def test_a_wrong_input_is_shown_at_its_field_and_never_in_the_state() -> None:
    async def main() -> None:
        async with desks() as all_desks:
            host, *joiners = all_desks
            await host.act(StartHosting(PROGRAM, 3))
            await seated(host, joiners)
            await agreed(host)
            view = await stage(host, SessionStage.INPUT)
            name = view.form[0].name
            for wrong in ("xyzzy", "-7654321", ""):
                with pytest.raises(UsageError, match="another look"):
                    await host.act(GiveInputs({name: wrong}))
                (field,) = session(host.state).form
                assert field.refused
                assert wrong == "" or wrong not in repr(host.state)
            await host.act(GiveInputs({name: "987654321"}))
            assert session(host.state).stage is SessionStage.WAITING
            assert "987654321" not in repr(host.state)

    run(main())


def test_an_unusual_value_is_asked_about_and_taken_once_it_is_confirmed() -> None:
    wage = question_about(IntegerField(name="wage", label="Wage", warn_max=5000, warning="Monthly, not yearly?"), ())
    happened: list[Happening] = []

    async def main() -> None:
        sitting = Sitting(happened.append, hosts=True)
        sitting._questions, sitting._given = (wage,), asyncio.get_running_loop().create_future()
        with pytest.raises(UsageError, match="another look"):
            sitting.give(GiveInputs({"wage": "50000"}))
        (shown,) = happened
        assert isinstance(shown, FormChecked)
        assert "Monthly, not yearly?" in shown.form[0].unusual
        sitting.give(GiveInputs({"wage": "50000"}, ("wage",)))
        assert isinstance(happened[-1], InputsTaken)
        assert await sitting._asks(wage) == "50000"
        with pytest.raises(UsageError, match="too late"):
            sitting.give(GiveInputs({"wage": "4000"}))

    run(main())


@pytest.mark.parametrize("text", ["nonsense", "onionmpc1tooshort"])
def test_what_is_no_invitation_is_refused_before_tor_starts(text: str) -> None:
    async def main() -> None:
        async with desks(1) as (desk,):
            with pytest.raises(UsageError):
                await desk.act(StartJoining(text))
            assert desk.state.session is None

    run(main())


def test_without_a_session_there_is_nothing_to_answer_or_leave() -> None:
    async def main() -> None:
        async with desks(1) as (desk,):
            for intent in (AnswerAgreement("00" * 32, agree=True), LeaveSession(), ComputeAgain()):
                with pytest.raises(UsageError):
                    await desk.act(intent)
            await desk.act(MarkCopied(1))
            await desk.act(ClearSession())
            with pytest.raises(UsageError, match="no program"):
                await desk.act(StartHosting("../etc/passwd", 3))
            assert desk.state.number == 0

    run(main())


def test_every_program_that_comes_with_onionmpc_has_a_card() -> None:
    async def main() -> None:
        async with desks(1) as (desk,):
            names = [card.name for card in desk.state.programs]
            assert "average_salary" in names
            assert all(card.title and card.reveals for card in desk.state.programs)

    run(main())
