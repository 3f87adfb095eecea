"""Policies for `Table.compute`: reads one with the files that it names, and asks it instead of a person.

What a rule allows is decided by onionmpc.session.policy_decision, and runs are counted by onionmpc.session.policy_runs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from onionmpc.api.arguments import path as checked_path
from onionmpc.api.inputs import Confirm, OwnInputs, files_named
from onionmpc.api.questions import AGREE_TO_ANYTHING, AllowedBy, Consent
from onionmpc.errors import AgreementError, UsageError
from onionmpc.names.evidence_files import read_pieces
from onionmpc.names.findings import Grade
from onionmpc.names.standing import Seat
from onionmpc.names.trust import Trust
from onionmpc.session.agreement import Agreement
from onionmpc.session.policy import MAX_POLICY_BYTES, PolicyRules, Rule, parse_policy
from onionmpc.session.policy_decision import Facts, NoRuleAllows, decide
from onionmpc.session.policy_runs import Run, RunCount, new_run_id, own_count
from onionmpc.text import printable

# What the other parties learn. A policy is private: its reasons would tell them what to try next.
REFUSED = "its policy does not allow this"
MAX_FAILURES = 4


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules by which a party consents without a person, as `load_policy` reads them. Pass it as `consent`.

    Attributes:
        rules: what the file says.
        reviews: the text of each signed review, by its file as the rules name it.
        places: the resolved path of each input file, by the file as the rules name it.
        count: where runs are counted.
        then: asked about a proposal that a rule allows. By default it consents, unless the result may expose a party,
            together with an earlier one of the session.
    """

    rules: PolicyRules
    reviews: Mapping[str, str] = field(repr=False)
    places: Mapping[str, str] = field(repr=False)
    count: RunCount = field(default_factory=own_count)
    then: Consent = AGREE_TO_ANYTHING

    def facts(
        self,
        agreement: Agreement,
        seats: tuple[Seat, ...],
        trust: Trust,
        runs: tuple[Run, ...],
        now: datetime,
        private: Sequence[str] = (),
    ) -> Facts:
        """Return what the rules are asked about.

        Args:
            seats: the other parties.
            private: the private arguments of this party's program.
        """
        return Facts(
            agreement=agreement,
            seats=seats,
            runs=runs,
            now=now,
            reviewers=self._reviewers(agreement.common.program_digest, trust, now),
            places=self.places,
            has_private=bool(private),
            private_files=tuple(map(os.path.realpath, files_named(private))),
        )

    def check_files(self) -> None:
        """Check what can be checked before anyone is met: the count of runs, and that each input is a file.

        Raises:
            UsageError: one of them cannot be used.
        """
        self.count.load()
        for file, place in self.places.items():
            if not Path(place).is_file():
                raise UsageError(
                    f"the input {printable(file)} of {self.rules.file} is not a file ({printable(place)})",
                    hint="its path is relative to the policy, unless it is absolute",
                )

    def _reviewers(self, program: bytes, trust: Trust, now: datetime) -> dict[str, str]:
        """Return who has signed each review of a program; reviews that prove nothing are left out."""
        if not self.reviews:
            return {}
        from onionmpc.names.examine import examine_review  # its libraries take long to load, and few need them

        findings = {file: examine_review(review, program, trust, now) for file, review in self.reviews.items()}
        return {file: finding.name for file, finding in findings.items() if finding.grade is Grade.NAMES}

    async def allows(
        self, agreement: Agreement, seats: tuple[Seat, ...], trust: Trust, private: Sequence[str]
    ) -> Allowance:
        """Find a rule that allows an agreement, and count the run.

        Raises:
            AgreementError: no rule does. The message is for this party's own user.
            UsageError: the count of runs cannot be used.
        """
        allowing: list[tuple[int, Rule]] = []

        def choose(runs: tuple[Run, ...], now: datetime) -> Run | None:
            facts = self.facts(agreement, seats, trust, runs, now, private)
            decision = decide(self.rules, facts)
            if isinstance(decision, NoRuleAllows):
                raise self._refusal(decision)
            allowing.append((decision.number, decision.rule))
            return _run_of(decision.rule, facts) if decision.rule.limit is not None else None

        # In a thread: it waits for a lock and for the disk.
        run = await asyncio.to_thread(self.count.reserve, choose)
        ((number, rule),) = allowing
        return Allowance(AllowedBy(self.rules.file, self.rules.digest, number, rule.digest), self, rule, run)

    def _refusal(self, refused: NoRuleAllows) -> AgreementError:
        shown = [str(failure) for failure in refused.failures[:MAX_FAILURES]]
        if len(refused.failures) > MAX_FAILURES:
            shown.append(f"and {len(refused.failures) - MAX_FAILURES} more")
        nearest = f"rule {refused.number} of {len(self.rules.rules)} comes nearest, but {'; '.join(shown)}"
        return AgreementError(
            f"no rule of {self.rules.file} allows this: {nearest}",
            hint="the others learn only that your policy does not allow it; onionmpc policy check explains the policy",
        )


@dataclass(frozen=True, slots=True)
class Allowance:
    """A proposal that a rule allows.

    Attributes:
        by: which rule, for the agreement screen.
        run: the counted run; None if the rule counts none.
    """

    by: AllowedBy
    policy: Policy
    rule: Rule
    run: Run | None

    def inputs(self, private: Sequence[str], confirm: Confirm | None) -> OwnInputs:
        """Read what the rule gives to the program. Without any input, the program reads nothing from standard input.

        Raises:
            UsageError: a file cannot be read.
        """
        contents = {name: self._read(name, file.removeprefix("@")) for name, file in self.rule.inputs.items()}
        stdin = None if self.rule.stdin is None else self._read("stdin", self.rule.stdin.removeprefix("@"))
        replaced = stdin is not None or bool(private)
        return OwnInputs(stdin or b"", contents, replaced, None, confirm)

    def _read(self, name: str, file: str) -> bytes:
        try:
            return Path(self.policy.places[file]).read_bytes()
        except OSError as error:
            raise UsageError(f"{name}: cannot read {printable(self.policy.places[file])}: {error.strerror}") from error

    def take_back(self) -> None:
        """Take back the counted run: the program has not started, and never will.

        Raises:
            UsageError: it stays counted.
        """
        if self.run is not None:
            self.policy.count.refund(self.run)


def _run_of(rule: Rule, facts: Facts) -> Run:
    return Run(new_run_id(), facts.now, rule.digest, facts.program, facts.files_of(rule), facts.roster)


def load_policy(path: str | os.PathLike[str]) -> Policy:
    """Read a policy, and the signed reviews that it names.

    Files that a policy names are beside it, unless their path is absolute. The inputs are read when a rule gives them.

    Raises:
        UsageError: the policy breaks a rule, or a file cannot be read. The message names the line.
    """
    file = checked_path("policy", path)
    shown = printable(os.fspath(file))
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_POLICY_BYTES + 1)
    except (OSError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) else "a file cannot have this name"
        raise UsageError(f"cannot read {shown}: {words}") from error
    rules = parse_policy(content, shown)
    folder = file.absolute().parent
    reviews = {review: read_pieces([folder / review])[0] for review in rules.reviews}
    places = {given: os.path.realpath(folder / given) for given in rules.files}
    return Policy(rules, reviews, places)
