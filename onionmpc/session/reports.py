"""How a session that failed is told: all parties that still hear each other tell the same story.

Knows reports, verdicts and the rule that picks one. Does not know links or time. Rules: docs/PROTOCOL.md section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onionmpc.errors import (
    AgreementError,
    AuthenticationFailed,
    LinkExpired,
    OnionMPCError,
    PeerLeft,
    ProgramError,
    RemoteProtocolError,
)
from onionmpc.program.stuck import USUAL_CAUSES
from onionmpc.session.messages import CAUSES, MAX_DETAIL_CHARACTERS, STEPS, Cause, Report, Step, Verdict
from onionmpc.text import printable

DURING: dict[Step, str] = {
    "connect": "while the parties connected",
    "agree": "while the parties agreed",
    "run": "while the program ran",
    "finish": "after the program had ended here",
}
# The reports of a session are few; a peer that invents more is not listened to. So many of each reporter are taken over
# its own link, and so many in its name from others: what these invent takes up no room of its own words. Those of 256
# parties fit into a link's window.
MAX_REPORTS_PER_PARTY = 2
SHOWN_DETAIL_CHARACTERS = 200

_ERRORS: dict[Cause, type[OnionMPCError]] = {
    "program": ProgramError,
    "protocol": RemoteProtocolError,
    "refused": AuthenticationFailed,
    "agreement": AgreementError,
    "left": PeerLeft,
    "stuck": ProgramError,
    "lost": LinkExpired,
}


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The story that was picked.

    Attributes:
        report: the first failure.
        lost: whether no survivor reaches the party that the report is about.
    """

    report: Report
    lost: bool


class FailureReports:
    """The reports and verdicts of one session.

    Args:
        roster: all addresses, sorted.
        own: ours.
    """

    def __init__(self, roster: Sequence[str], own: str) -> None:
        self._roster = tuple(roster)
        self._own = own
        # In the order of arrival, and whether each came from its reporter first; those that have since.
        self._reports: dict[Report, bool] = {}
        self._own_words: set[Report] = set()
        self._verdicts: dict[str, frozenset[str]] = {}
        self._revealed = False

    def add(self, report: Report, teller: str) -> bool:
        """Take a report; return whether it is new and well formed, and so is to be passed on.

        Args:
            teller: who told us: the reporter itself, or another party in its name.
        """
        itself = teller == report.reporter
        if report in self._reports:
            if itself:
                self._own_words.add(report)
            return False
        if report.reporter not in self._roster or report.about not in self._roster:
            return False
        alike = ((known.reporter, first) for known, first in self._reports.items())
        if sum(one == (report.reporter, itself) for one in alike) >= MAX_REPORTS_PER_PARTY:
            return False
        self._reports[report] = itself
        if itself:
            self._own_words.add(report)
        return True

    def has_left(self, party: str, *, itself: bool) -> bool:
        """Return whether a party has said that it leaves; to us, if `itself`, else to anyone who says so."""
        return any(
            report.cause == "left" and report.about == report.reporter == party
            for report in (self._own_words if itself else self._reports)
        )

    def add_verdict(self, party: str, verdict: Verdict) -> None:
        """Take a party's verdict, ours included."""
        self._verdicts[party] = frozenset(verdict.reaches) & set(self._roster)
        self._revealed |= verdict.revealed

    def has_verdict(self, party: str) -> bool:
        """Return whether this party has said whom it reaches."""
        return party in self._verdicts

    @property
    def failed(self) -> bool:
        """Whether anything was reported."""
        return bool(self._reports)

    @property
    def reports(self) -> tuple[Report, ...]:
        """All that was reported, in the order of arrival."""
        return tuple(self._reports)

    @property
    def awaits_word(self) -> bool:
        """Whether a program was seen to end at a party that has not reported anything to us itself."""
        spoke = {report.reporter for report in self._own_words}
        return any(_is_hearsay(report) and report.about not in spoke for report in self._reports)

    def conclude(self) -> Conclusion:
        """Pick the one report that everyone picks."""
        report = min(self._reports, key=self._rank)
        reached = any(report.about in reaches for party, reaches in self._verdicts.items() if party != report.about)
        # A party that has given its verdict to us is not lost either, whoever says so.
        spoke = report.about in self._verdicts or report.about == self._own
        return Conclusion(report, lost=report.cause == "lost" and not reached and not spoke)

    def error(self) -> OnionMPCError:
        """Return the error that this party ends with."""
        conclusion = self.conclude()
        sentence = self._sentence(conclusion)
        if STEPS.index(conclusion.report.step) >= STEPS.index("run"):
            # A party opens an output with the shares of T others, so one of those that are still here has begun to.
            revealed = "some output may have been revealed before" if self._revealed else "no output had been revealed"
            sentence = f"{sentence}; {revealed}"
        return _ERRORS[conclusion.report.cause](sentence, hint=_hint(conclusion))

    def _sentence(self, conclusion: Conclusion) -> str:
        report = conclusion.report
        about, reporter = self._name(report.about), self._name(report.reporter)
        # That of programs that wait for each other names them all.
        limit = MAX_DETAIL_CHARACTERS if report.cause == "stuck" else SHOWN_DETAIL_CHARACTERS
        detail = f": {printable(report.detail, limit)}" if report.detail else ""
        during = DURING[report.step]
        match report.cause:
            case "program" if _is_hearsay(report):
                return f"{reporter} says that the program failed at {about} {during}{detail}"
            case "program":
                return f"the program failed at {about} {during}{detail}"
            case "protocol":
                return f"{reporter} says that {about} broke the rules {during}{detail}"
            case "refused":
                return f"{about} does not accept {reporter}{detail}"
            case "agreement" if report.about == report.reporter:
                return f"{about} did not agree{detail}"
            case "agreement":
                return f"{reporter} and {about} do not agree{detail}"
            case "left" if report.about != report.reporter:
                return f"{reporter} says that {about} left {during}"
            case "left":
                return f"{about} left {during}"
            case "stuck" if report.about != report.reporter:
                return f"{reporter} says that the programs wait for each other, and {about} waits no longer{detail}"
            case "stuck":
                return f"the programs wait for each other, and {reporter} waits no longer{detail}"
            case "lost" if conclusion.lost:
                return f"{about} is lost: no other party reaches it ({reporter} lost it first, {during}{detail})"
            case "lost":
                return f"{reporter} and {about} lost each other {during}{detail}"

    def _rank(self, report: Report) -> tuple[int, int, bool, str, str, str]:
        """Order reports: the lowest is told. All parties hold the same reports, and choose the same one."""
        about_another = report.about != report.reporter
        step = STEPS.index(report.step)
        return self._cause_rank(report), step, about_another, report.about, report.reporter, report.detail

    def _cause_rank(self, report: Report) -> int:
        if not _is_hearsay(report):
            return CAUSES.index(report.cause) + (2 if report.cause == "lost" else 0)
        # A program that ends makes others end, and these make others end: who saw another's end was not the first.
        is_victim = any(_is_hearsay(other) and other.reporter == report.about for other in self._reports)
        return CAUSES.index("lost") + is_victim

    def _name(self, onion: str) -> str:
        number = self._roster.index(onion)
        return f"this party (party {number})" if onion == self._own else f"party {number}"


def _is_hearsay(report: Report) -> bool:
    """Whether a party speaks of a program that is not its own: it saw no more than its end."""
    return report.cause == "program" and report.about != report.reporter


def _hint(conclusion: Conclusion) -> str:
    match conclusion.report.cause:
        case "agreement":
            return "talk with the others about what to run and with which versions, and start again"
        case "refused":
            return "it lists other parties, or serves another session: compare the lists of addresses"
        case "stuck":
            return USUAL_CAUSES
        case "left" | "lost":
            return "start a new session when all parties are back"
        case _:
            return ""
