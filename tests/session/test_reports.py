"""All parties that hold the same reports draw the same conclusion, and an accusation is shown as one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.errors import (
    AgreementError,
    AuthenticationFailed,
    LinkExpired,
    OnionMPCError,
    PeerLeft,
    ProgramError,
    RemoteProtocolError,
)
from onionmpc.session.messages import CAUSES, STEPS, Cause, Report, Step, Verdict
from onionmpc.session.reports import MAX_REPORTS_PER_PARTY, FailureReports

ROSTER = ("a.onion", "b.onion", "c.onion", "d.onion")
A, B, C, D = ROSTER
STRANGER = "x.onion"
UNREVEALED = "; no output had been revealed"
CLOSED = "it ended while another party still waited for it"

Verdicts = dict[str, list[str]]


def reckon(reports: list[Report], verdicts: Verdicts | None = None, own: str = A) -> FailureReports:
    reckoning = FailureReports(ROSTER, own)
    for report in reports:
        reckoning.add(report, report.reporter)
    for party, reaches in (verdicts or {}).items():
        reckoning.add_verdict(party, Verdict(tuple(reaches)))
    return reckoning


def story(reports: list[Report], verdicts: Verdicts | None = None, own: str = A) -> str:
    """Return the sentence without "this party" and without what it says about outputs."""
    error = reckon(reports, verdicts, own).error()
    number = ROSTER.index(own)
    sentence = error.message.replace(f"this party (party {number})", f"party {number}")
    return sentence.removesuffix(UNREVEALED)


parties = st.sampled_from(ROSTER)
report = st.builds(Report, parties, parties, st.sampled_from(CAUSES), st.sampled_from(STEPS), st.text(max_size=5))
verdicts = st.dictionaries(parties, st.lists(parties, max_size=4))


def honest(reports: list[Report]) -> list[Report]:
    """Keep no more reports of each reporter than a party accepts."""
    kept: list[Report] = []
    for one in reports:
        if one not in kept and sum(other.reporter == one.reporter for other in kept) < MAX_REPORTS_PER_PARTY:
            kept.append(one)
    return kept


# -- one story


@given(st.lists(report, min_size=1, max_size=8).map(honest), verdicts, st.randoms(use_true_random=False))
def test_reports_in_any_order_give_the_same_conclusion_at_every_party(
    reports: list[Report], verdicts: Verdicts, shuffle: random.Random
) -> None:
    # All were there to give a verdict: who is reached by none of the others is not among those that compare.
    everyone = {party: verdicts.get(party, []) for party in ROSTER}
    stories = set()
    for own in ROSTER:
        shuffled = reports * 2  # each may come by several ways
        shuffle.shuffle(shuffled)
        kept = [one for index, one in enumerate(shuffled) if one not in shuffled[:index]]
        orders = list(everyone.items())
        shuffle.shuffle(orders)
        stories.add(story(kept, dict(orders), own))
    assert len(stories) == 1


@given(st.lists(report, min_size=1, max_size=8).map(honest), verdicts)
def test_the_class_and_the_exit_code_are_the_same_at_every_party(reports: list[Report], verdicts: Verdicts) -> None:
    classes = {type(reckon(reports, verdicts, own).error()) for own in ROSTER}
    assert len(classes) == 1


@given(st.lists(report, min_size=1, max_size=8).map(honest))
def test_the_error_is_one_line_that_names_the_party_concerned(reports: list[Report]) -> None:
    reckoning = reckon(reports)
    message = reckoning.error().message
    assert message.isprintable()
    assert f"party {ROSTER.index(reckoning.conclude().report.about)}" in message


@given(st.lists(report, min_size=1, max_size=8).map(honest), report)
def test_a_failure_of_a_program_is_chosen_over_its_consequences(reports: list[Report], other: Report) -> None:
    own_failure = Report(B, B, "program", "connect", "it exited with status 1")
    kept = [one for one in honest([*reports, other]) if one.reporter != B]
    chosen = reckon([*kept, own_failure]).conclude().report
    assert chosen.cause == "program"
    assert chosen.about == chosen.reporter


# -- which one


@pytest.mark.parametrize(
    ("reports", "chosen"),
    [
        # By cause.
        ([Report(A, B, "lost", "connect"), Report(C, C, "left", "run")], 1),
        ([Report(A, B, "lost", "connect"), Report(C, C, "stuck", "run")], 1),
        ([Report(A, A, "stuck", "run"), Report(C, C, "left", "run")], 1),
        ([Report(A, B, "left", "connect"), Report(C, C, "agreement", "agree")], 1),
        ([Report(A, B, "agreement", "connect"), Report(C, A, "refused", "finish")], 1),
        ([Report(A, B, "refused", "connect"), Report(C, A, "protocol", "finish")], 1),
        ([Report(A, B, "protocol", "connect"), Report(C, C, "program", "finish")], 1),
        # A program's end as another saw it comes before a lost link, and after all else.
        ([Report(A, B, "lost", "connect"), Report(C, D, "program", "run", CLOSED)], 1),
        ([Report(C, D, "program", "run", CLOSED), Report(A, B, "protocol", "run")], 1),
        ([Report(C, D, "program", "run", CLOSED), Report(D, D, "left", "run")], 1),
        # Where programs that wait for each other are stopped, each sees the others end.
        ([Report(A, B, "program", "run", CLOSED), Report(D, D, "stuck", "run")], 1),
        # By step.
        ([Report(A, B, "lost", "run"), Report(C, D, "lost", "agree")], 1),
        # One's own before another's, even about a lower party.
        ([Report(B, A, "agreement", "agree"), Report(C, C, "agreement", "agree")], 1),
        # The lowest party, then the lowest reporter.
        ([Report(A, C, "lost", "run"), Report(C, A, "lost", "run")], 1),
        ([Report(C, B, "lost", "run"), Report(A, B, "lost", "run")], 1),
    ],
)
def test_which_report_is_chosen(reports: list[Report], chosen: int) -> None:
    assert reckon(reports).conclude().report == reports[chosen]
    assert reckon(reports[::-1]).conclude().report == reports[chosen]


def test_a_party_that_stops_because_of_another_is_not_blamed() -> None:
    # D exited; A and B saw that, and C saw only that A was gone.
    reports = [Report(C, A, "program", "run", CLOSED), Report(B, A, "program", "run", CLOSED)]
    reports += [Report(A, D, "program", "run", CLOSED)]
    assert story(reports) == f"party 0 says that the program failed at party 3 while the program ran: {CLOSED}"


def test_the_sender_of_a_forbidden_pickle_is_blamed_and_not_the_party_that_stopped_at_it() -> None:
    reports = [Report(B, A, "program", "run", CLOSED), Report(A, C, "protocol", "run", "a message asks for os.system")]
    assert story(reports) == (
        "party 0 says that party 2 broke the rules while the program ran: a message asks for os.system"
    )


@pytest.mark.parametrize(
    ("reports", "awaits"),
    [
        ([], False),
        ([Report(A, B, "lost", "run", "")], False),
        ([Report(A, A, "program", "run", "it exited with status 3")], False),
        ([Report(A, B, "program", "run", CLOSED)], True),
        ([Report(A, B, "program", "run", CLOSED), Report(B, B, "program", "run", "it exited with status 3")], False),
        # B saw C end, and has no more to say than that; C has.
        ([Report(A, B, "program", "run", CLOSED), Report(B, C, "program", "run", CLOSED)], True),
    ],
)
def test_how_a_program_ended_is_awaited_from_its_own_party(reports: list[Report], awaits: bool) -> None:
    assert reckon(reports).awaits_word == awaits


def test_two_programs_that_saw_each_other_end_still_give_a_conclusion() -> None:
    reports = [Report(A, B, "program", "run", CLOSED), Report(B, A, "program", "run", CLOSED)]
    assert story(reports).startswith("party 1 says that the program failed at party 0")


# -- lost


LOST = [Report(A, C, "lost", "run", "the stream ended")]


@pytest.mark.parametrize(
    ("verdicts", "is_lost"),
    [
        ({}, True),
        ({A: [B], B: [A]}, True),
        ({A: [B, D], B: [A, D], D: [A, B]}, True),
        ({A: [B], B: [A, C]}, False),
        ({A: [B], B: [A], D: [C]}, False),
        # Its own verdict came to us: somebody reaches it.
        ({A: [B], B: [A], C: []}, False),
        # Its own word that it reaches itself is none.
        ({A: [B], B: [A, STRANGER]}, True),
    ],
)
def test_a_party_is_lost_only_if_nobody_reaches_it(verdicts: Verdicts, is_lost: bool) -> None:
    for own in (A, B, D):
        assert reckon(LOST, verdicts, own).conclude().lost == is_lost
    said = story(LOST, verdicts)
    if is_lost:
        assert said == (
            "party 2 is lost: no other party reaches it "
            "(party 0 lost it first, while the program ran: the stream ended)"
        )
    else:
        assert said == "party 0 and party 2 lost each other while the program ran: the stream ended"


def test_nobody_calls_itself_lost() -> None:
    assert story(LOST, {C: []}, own=C) == "party 0 and party 2 lost each other while the program ran: the stream ended"


def test_only_a_report_of_a_lost_party_is_concluded_as_lost() -> None:
    for cause in CAUSES:
        assert reckon([Report(A, C, cause, "run")]).conclude().lost == (cause == "lost")


# -- words


@pytest.mark.parametrize(
    ("cause", "reporter", "about", "error", "sentence"),
    [
        ("program", B, B, ProgramError, "the program failed at party 1 while the program ran: why"),
        ("program", B, C, ProgramError, "party 1 says that the program failed at party 2 while the program ran: why"),
        ("protocol", B, C, RemoteProtocolError, "party 1 says that party 2 broke the rules while the program ran: why"),
        ("refused", B, C, AuthenticationFailed, "party 2 does not accept party 1: why"),
        ("agreement", B, B, AgreementError, "party 1 did not agree: why"),
        ("agreement", B, C, AgreementError, "party 1 and party 2 do not agree: why"),
        ("left", B, B, PeerLeft, "party 1 left while the program ran"),
        ("left", B, C, PeerLeft, "party 1 says that party 2 left while the program ran"),
        ("stuck", B, B, ProgramError, "the programs wait for each other, and party 1 gave up waiting: why"),
        (
            "stuck",
            B,
            C,
            ProgramError,
            "party 1 says that the programs wait for each other, and party 2 gave up waiting",
        ),
        ("lost", B, C, LinkExpired, "party 2 is lost: no other party reaches it (party 1 lost it first, while"),
    ],
)
def test_words_and_class(cause: Cause, reporter: str, about: str, error: type[OnionMPCError], sentence: str) -> None:
    reckoning = reckon([Report(reporter, about, cause, "run", "why")])
    assert type(reckoning.error()) is error
    assert reckoning.error().message.startswith(sentence)


@pytest.mark.parametrize("step", STEPS)
def test_every_step_has_a_description(step: Step) -> None:
    assert story([Report(B, B, "left", step)]).startswith("party 1 left ")


def test_a_party_calls_itself_this_party() -> None:
    assert reckon([Report(B, B, "left", "run")], own=B).error().message.startswith("this party (party 1) left")


def test_control_characters_in_a_peers_details_are_escaped() -> None:
    said = story([Report(B, B, "program", "run", "\x1b[2J\nonionmpc: error: forged " + "a" * 400)])
    assert said.isprintable()
    assert "\\x1b[2J\\nonionmpc" in said
    assert len(said) < 300


# -- what is taken


def test_a_report_about_a_stranger_is_ignored() -> None:
    reckoning = FailureReports(ROSTER, A)
    assert not reckoning.add(Report(STRANGER, A, "lost", "run"), B)
    assert not reckoning.add(Report(STRANGER, A, "lost", "run"), STRANGER)
    assert not reckoning.add(Report(A, STRANGER, "lost", "run"), A)
    assert not reckoning.failed


def test_a_report_is_new_once() -> None:
    reckoning = FailureReports(ROSTER, A)
    assert reckoning.add(LOST[0], A)
    assert not reckoning.add(Report(A, C, "lost", "run", "the stream ended"), A)
    assert reckoning.reports == (LOST[0],)
    assert reckoning.failed


def test_reports_are_bounded_by_reporter() -> None:
    reckoning = FailureReports(ROSTER, A)
    taken = [reckoning.add(Report(B, C, "lost", "run", str(number)), B) for number in range(10)]
    assert taken == [True] * MAX_REPORTS_PER_PARTY + [False] * (10 - MAX_REPORTS_PER_PARTY)
    assert reckoning.add(Report(C, C, "left", "run"), C)


# Issue 12. What others say in a party's name takes nothing away from its own word.


def test_a_report_from_its_reporter_is_accepted_no_matter_what_others_sent_in_its_name() -> None:
    reckoning = FailureReports(ROSTER, A)
    forged = [
        reckoning.add(Report(B, B, "left", "run", str(number)), teller) for number in range(5) for teller in (C, D)
    ]
    assert forged.count(True) == MAX_REPORTS_PER_PARTY
    true = [reckoning.add(Report(B, C, "protocol", "run", str(number)), B) for number in range(5)]
    assert true == [True] * MAX_REPORTS_PER_PARTY + [False] * (5 - MAX_REPORTS_PER_PARTY)
    assert len(reckoning.reports) == 2 * MAX_REPORTS_PER_PARTY


def test_two_parties_that_confirm_each_others_forgeries_do_not_fill_memory() -> None:
    reckoning = FailureReports(ROSTER, A)
    for number in range(50):
        invented = Report(B, C, "lost", "run", str(number))
        reckoning.add(invented, D)
        reckoning.add(invented, B)
    assert len(reckoning.reports) == 2 * MAX_REPORTS_PER_PARTY


def test_a_forwarded_report_that_a_party_left_counts_only_while_its_link_has_no_stream() -> None:
    reckoning = FailureReports(ROSTER, A)
    reckoning.add(Report(B, B, "left", "run"), C)
    assert not reckoning.has_left(B, itself=True)
    assert reckoning.has_left(B, itself=False)
    assert not reckoning.add(Report(B, B, "left", "run"), B)  # nothing new to tell others
    assert reckoning.has_left(B, itself=True)
    reckoning.add(Report(C, D, "left", "run"), C)
    assert not reckoning.has_left(D, itself=False)


def test_a_partys_own_report_is_awaited_even_if_others_reported_in_its_name() -> None:
    reckoning = reckon([Report(A, B, "program", "run", CLOSED)])
    reckoning.add(Report(B, C, "lost", "run"), D)
    assert reckoning.awaits_word
    reckoning.add(Report(B, B, "program", "run", "it exited with status 1"), B)
    assert not reckoning.awaits_word


def test_a_verdict_replaces_the_one_before() -> None:
    reckoning = reckon(LOST, {B: [C]})
    assert not reckoning.conclude().lost
    assert reckoning.has_verdict(B)
    assert not reckoning.has_verdict(D)
    reckoning.add_verdict(B, Verdict(()))
    assert reckoning.conclude().lost


@pytest.mark.parametrize("step", STEPS)
def test_the_error_says_what_was_revealed_once_programs_have_run(step: Step) -> None:
    reports = [Report(B, C, "lost", step)]
    ran = step in ("run", "finish")
    assert reckon(reports).error().message.endswith(UNREVEALED) == ran
    reckoning = reckon(reports)
    reckoning.add_verdict(A, Verdict((B,), revealed=False))
    reckoning.add_verdict(B, Verdict((A,), revealed=True))
    assert reckoning.error().message.endswith("; some output may have been revealed before") == ran
