"""`make fuzz`: all targets, one after the other, for as long as you like.

Shows a line for each target. What it finds goes into the corpus: an input for each new way to end, and the smallest
that breaks an invariant; then the exit code is 1. Ctrl-C ends it, and what earlier targets found stays.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from typing import Any

from tests.fuzz.fuzzing import TARGETS, corpus_of, fuzz, invariant_of, keep, name_of


def run(target: Any, seconds: float) -> bool:
    """Fuzz a target, keep what is found and tell of it; return whether its invariant holds."""
    began_s = time.monotonic()
    try:
        tally = fuzz(target, seconds)
    except Exception:  # noqa: BLE001 (whatever a broken decoder raises)
        tell(f"{name_of(target):<20} BROKEN: {invariant_of(target)}\n{traceback.format_exc()}")
        return False
    for data in tally.new.values():
        keep(target, data)
    took_s, kept = time.monotonic() - began_s, len(corpus_of(target))
    tell(f"{name_of(target):<20} ok: {tally.inputs} inputs in {took_s:.0f} s, {len(tally.new)} new of {kept} kept")
    return True


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzz every decoder.")
    parser.add_argument("--minutes", type=float, default=30.0, help="for all targets together")
    seconds = parser.parse_args().minutes * 60 / len(TARGETS)
    try:
        held = [run(target, seconds) for target in TARGETS]
    except KeyboardInterrupt:
        return 130
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
