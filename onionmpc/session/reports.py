"""Collects reports and verdicts, and picks the one report that all parties name as the reason for the failure.

No links and no clock: onionmpc.session.ending exchanges the reports. Rules: docs/PROTOCOL.md section 3.
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
from onionmpc.program.process.stuck import USUAL_CAUSES
from onionmpc.session.messages import CAUSES, MAX_DETAIL_CHARACTERS, STEPS, Cause, Report, Step, Verdict
from onionmpc.text import printable

DURING: dict[Step, str] = {
    "connect": "while the parties connected",
    "agree": "while the parties agreed",
    "run": "while the program ran",
    "finish": "after the program had ended",
}
# An honest party makes few reports. This many are accepted from each reporter over its own link, and as many in its
# name from others, so that forged reports cannot use up the room for its own. Those of 256 parties fit into a link's
# window.
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
    """The report that explains the failure.

    Attributes:
        report: the report of the first failure.
        lost: whether no survivor reaches the party that the report is about.
    """

    report: Report
    lost: bool


class FailureReports:
    """The reports and verdicts of one session.

    Args:
        roster: all addresses, sorted.
        own: this party's address.
    """

    def __init__(self, roster: Sequence[str], own: str) -> None:
        self._roster = tuple(roster)
        self._own = own
        # In the order of arrival; True if the first copy came from the reporter itself.
        self._reports: dict[Report, bool] = {}
        self._first_hand: set[Report] = set()  # reports that have come from their reporters by now
        self._verdicts: dict[str, frozenset[str]] = {}
        self._revealed = False

    def add(self, report: Report, sender: str) -> bool:
        """Take a report; return whether to pass it on, because it is new and names parties of the roster.

        Args:
            sender: the address of the party that sent it: the reporter itself, or another party in its name.
        """
        itself = sender == report.reporter
        if report in self._reports:
            if itself:
                self._first_hand.add(report)
            return False
        if report.reporter not in self._roster or report.about not in self._roster:
            return False
        sources = [(known.reporter, first_hand) for known, first_hand in self._reports.items()]
        if sources.count((report.reporter, itself)) >= MAX_REPORTS_PER_PARTY:
            return False
        self._reports[report] = itself
        if itself:
            self._first_hand.add(report)
        return True

    def has_left(self, party: str, *, itself: bool) -> bool:
        """Return whether a party leaves: by its own report to us if `itself`, otherwise by any party's report."""
        return any(
            report.cause == "left" and report.about == report.reporter == party
            for report in (self._first_hand if itself else self._reports)
        )

    def add_verdict(self, party: str, verdict: Verdict) -> None:
        """Take a party's verdict. This party's own counts as well."""
        self._verdicts[party] = frozenset(verdict.reaches) & set(self._roster)
        self._revealed |= verdict.revealed

    def has_verdict(self, party: str) -> bool:
        """Return whether the verdict of `party` has arrived."""
        return party in self._verdicts

    @property
    def failed(self) -> bool:
        """True once anything was reported."""
        return bool(self._reports)

    @property
    def reports(self) -> tuple[Report, ...]:
        """All reports, in the order of arrival."""
        return tuple(self._reports)

    @property
    def awaits_word(self) -> bool:
        """True if a program was seen to end at a party that has sent us no report itself."""
        spoke = {report.reporter for report in self._first_hand}
        return any(_is_hearsay(report) and report.about not in spoke for report in self._reports)

    def conclude(self) -> Conclusion:
        """Pick the report of the first failure. Every party picks the same one."""
        report = min(self._reports, key=self._rank)
        reached = any(report.about in reaches for party, reaches in self._verdicts.items() if party != report.about)
        # A party whose verdict arrived here is not lost, even if others report so.
        spoke = report.about in self._verdicts or report.about == self._own
        return Conclusion(report, lost=report.cause == "lost" and not reached and not spoke)

    def error(self) -> OnionMPCError:
        """Return the error that this party ends with."""
        conclusion = self.conclude()
        sentence = self._sentence(conclusion)
        if STEPS.index(conclusion.report.step) >= STEPS.index("run"):
            # Opening an output takes the shares of T + 1 parties. So while no more than T are lost, a party that is
            # still here took part in it, and its verdict says so.
            revealed = "some output may have been revealed before" if self._revealed else "no output had been revealed"
            sentence = f"{sentence}; {revealed}"
        return _ERRORS[conclusion.report.cause](sentence, hint=_hint(conclusion))

    def _sentence(self, conclusion: Conclusion) -> str:
        report = conclusion.report
        about, reporter = self._name(report.about), self._name(report.reporter)
        # The detail of "stuck" names all programs.
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
                return f"{reporter} says that the programs wait for each other, and {about} gave up waiting{detail}"
            case "stuck":
                return f"the programs wait for each other, and {reporter} gave up waiting{detail}"
            case "lost" if conclusion.lost:
                return f"{about} is lost: no other party reaches it ({reporter} lost it first, {during}{detail})"
            case "lost":
                return f"{reporter} and {about} lost each other {during}{detail}"

    def _rank(self, report: Report) -> tuple[int, int, bool, str, str, str]:
        """Return the rank of a report; the lowest is picked. All parties hold the same reports and so pick the same."""
        about_another = report.about != report.reporter
        step = STEPS.index(report.step)
        return self._cause_rank(report), step, about_another, report.about, report.reporter, report.detail

    def _cause_rank(self, report: Report) -> int:
        if not _is_hearsay(report):
            return CAUSES.index(report.cause) + (2 if report.cause == "lost" else 0)
        # A program that ends makes others end. So a party that saw another's program end was not the first to fail,
        # even if a third party saw its program end.
        is_victim = any(_is_hearsay(other) and other.reporter == report.about for other in self._reports)
        return CAUSES.index("lost") + is_victim

    def _name(self, onion: str) -> str:
        number = self._roster.index(onion)
        return f"this party (party {number})" if onion == self._own else f"party {number}"


def _is_hearsay(report: Report) -> bool:
    """Return whether a party reports on another party's program. It saw the program end and does not know why."""
    return report.cause == "program" and report.about != report.reporter


def _hint(conclusion: Conclusion) -> str:
    match conclusion.report.cause:
        case "agreement":
            return "agree with the others on what to run and with which versions, then start again"
        case "refused":
            return "that party has another list of addresses, or is in another session: compare your lists"
        case "stuck":
            return USUAL_CAUSES
        case "left" | "lost":
            return "start a new session when all parties are back"
        case _:
            return ""
