"""`make soak`: one session under faults for as long as you like, and a report of what it survived.

Shows each fault as it comes on stderr, and at the end a table and the same as JSON on stdout. Exit code 1 if anything
was not as it should be. Ctrl-C ends everything that was started. The parties' tors write info logs; what they wrote
during an outage of more than a minute is kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from onionmpc.cli.loop import run_until_interrupted
from tests.e2e.faults import plan_faults
from tests.e2e.survival import LATENCY_MS, Outage, Report, survive
from tests.e2e.torlog import keep_outage, logging_tor
from tests.support.faulty_network import FaultyNetwork

# Longer than any recovery that was explained.
LONG_OUTAGE_S = 60.0


def table(report: Report) -> Iterator[str]:
    """Yield the lines of a report as Markdown."""
    yield f"# {report.parties} parties under faults for {report.seconds / 60:.1f} minutes, seed {report.seed}"
    yield ""
    yield "| fault | came | survived | broke links | hidden by another | back after, median (s) | worst (s) |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for kind in sorted({felt.kind for felt in report.felt}):
        felt = [felt for felt in report.felt if felt.kind == kind]
        survived, hidden = sum(one.survived for one in felt), sum(one.hidden for one in felt)
        broke = sum(one.links > 0 for one in felt)
        times_s = [one.recovery_s for one in felt if one.recovery_s is not None]
        middle, worst = (f"{statistics.median(times_s):.1f}", f"{max(times_s):.1f}") if times_s else ("", "")
        yield f"| {kind} | {len(felt)} | {survived} | {broke} | {hidden} | {middle} | {worst} |"
    yield ""
    yield f"* rounds: {report.rounds}; output {_yes(report.output_ok)}, digests {_yes(report.digests_ok)}"
    yield "* most memory: " + ", ".join(f"{role} {mib:.0f} MiB" for role, mib in report.peak_mib.items())
    yield f"* outages that no fault explains: {report.unprovoked}; faults that did not come about: {len(report.missed)}"
    yield f"* {'; '.join(report.problems) or 'unharmed'}"


def as_json(report: Report) -> str:
    """Return a report as one line of JSON."""
    facts = dataclasses.asdict(report)
    del facts["last_words"]
    return json.dumps(facts | {"ok": not report.problems})


def _yes(ok: bool) -> str:
    return "ok" if ok else "NOT OK"


def _teller() -> Callable[[str], None]:
    """Return a function that shows a line with the time that has passed."""
    began_s = time.monotonic()

    def tell(line: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - began_s), 60)
        print(f"{minutes:3}:{seconds:02}  {line}", file=sys.stderr, flush=True)  # noqa: T201

    return tell


async def soak(minutes: float, parties: int, seed: int, every_s: float, logs: Path) -> Report:
    """Build a network, and run one session in it under faults.

    Args:
        logs: where the tors' logs of long outages are kept.
    """
    tell = _teller()
    tell(f"seed {seed}: building a network")
    with tempfile.TemporaryDirectory(prefix="onionmpc-soak-") as name:
        folder = Path(name)
        async with FaultyNetwork(folder / "net", latency=LATENCY_MS) as network:
            (folder / "parties").mkdir()
            plan = plan_faults(seed, minutes * 60, every_s)
            environment = logging_tor(folder / "logs")
            report = await survive(
                network, folder / "parties", plan, seed=seed, parties=parties, environment=environment, tell=tell
            )
            for outage in report.outages:
                _keep_if_long(outage, folder / "logs", logs, tell)
            return report


def _keep_if_long(outage: Outage, written: Path, logs: Path, tell: Callable[[str], None]) -> None:
    now_s = time.monotonic()
    back_s = now_s if outage.back_s is None else outage.back_s
    if back_s - outage.lost_s <= LONG_OUTAGE_S:
        return
    to_clock_s = time.time() - now_s  # the times of an outage are those of the event loop, which is the monotonic clock
    kept = logs / f"{round(outage.lost_s + to_clock_s)}-party-{outage.party}-without-{outage.peer}"
    keep_outage(written, kept, outage.lost_s + to_clock_s, back_s + to_clock_s)
    tell(f"party {outage.party} was without party {outage.peer} for {back_s - outage.lost_s:.0f} s: logs in {kept}")


def main() -> int:
    """Run a soak with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long faults come")
    parser.add_argument("--parties", type=int, default=3)
    parser.add_argument(
        "--seed", type=int, default=None, help="of the faults and the computation; default: another each time"
    )
    parser.add_argument("--every", type=float, default=12.0, metavar="S", help="seconds from one fault to the next")
    parser.add_argument(
        "--logs", type=Path, default=Path("soak-logs"), metavar="DIR", help="where tor's logs of long outages are kept"
    )
    options = parser.parse_args()
    seed = random.randrange(2**32) if options.seed is None else options.seed
    try:
        report = run_until_interrupted(soak(options.minutes, options.parties, seed, options.every, options.logs))
    except KeyboardInterrupt:
        return 130
    print("\n".join(table(report)))  # noqa: T201
    print(as_json(report))  # noqa: T201
    if report.problems:
        print(report.describe(), file=sys.stderr)  # noqa: T201
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
