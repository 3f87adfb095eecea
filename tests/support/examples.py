"""Runs the shipped programs, or one function of theirs, with plain MPyC.

The parties are processes. Unix sockets in a temporary folder replace MPyC's own sockets, which would listen on all
interfaces.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onionmpc.resources import shipped

EXAMPLES = shipped("examples")
DEADLINE_S = 60

RUN_ON_UNIX_SOCKETS = """
import os, runpy, sys
sys.argv = sys.argv[1:]
from mpyc.runtime import mpc
loop = mpc._loop
loop.create_server = lambda factory, port, ssl: loop.create_unix_server(factory, str(port))
loop.create_connection = lambda factory, host, port, **_: loop.create_unix_connection(factory, str(port))
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""

# Calls a function of a program once for each case, in one session, and prints the results.
CALL = """
import importlib, json, sys
from mpyc.runtime import mpc
sys.path[0] = {examples!r}
function = getattr(importlib.import_module({name!r}), {function!r})
async def main():
    async with mpc:
        return [await function(*case) for case in json.load(sys.stdin)]
print(json.dumps(mpc.run(main())))
"""


def run_parties(
    folder: Path, name: str | Path, arguments: Sequence[str], inputs: Sequence[str], deadline_s: float = DEADLINE_S
) -> list[str]:
    """Run one party per input, which it reads from standard input; return what each prints."""
    script = name if isinstance(name, Path) else EXAMPLES / f"{name}.py"
    options = [f"-M{len(inputs)}", "--no-log"]
    parties = [
        subprocess.Popen(
            [sys.executable, "-c", RUN_ON_UNIX_SOCKETS, script, *options, f"-I{number}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
        )
        for number in range(len(inputs))
    ]
    printed = []
    try:
        for party, line in zip(parties, inputs, strict=True):
            assert party.stdin
            party.stdin.write(line)
            party.stdin.close()
            party.stdin = None
        for party in parties:
            stdout, stderr = party.communicate(timeout=deadline_s)
            assert party.returncode == 0, stderr
            printed.append(stdout)
    finally:
        for party in parties:
            party.kill()
            party.communicate()
    return printed


def call_parties(folder: Path, name: str, function: str, cases: Sequence[Sequence[Sequence[Any]]]) -> list[list[Any]]:
    """Call an asynchronous function of a program once for each case, with all parties in one session.

    Args:
        cases: for each case, and for each party, the arguments of the call, as JSON knows them.
    Returns:
        for each case, the result of each party.
    """
    script = folder / "call.py"
    script.write_text(CALL.format(examples=str(EXAMPLES), name=name, function=function))
    inputs = [json.dumps(party) for party in zip(*cases, strict=True)]
    results = [json.loads(printed) for printed in run_parties(folder, script, [], inputs)]
    return [[*result] for result in zip(*results, strict=True)]


def run_alone(name: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a script with one party, as a user would."""
    return subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", "--no-log", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )


def read_input(*public: str) -> list[str]:
    """Return the arguments of a program that reads its private value from standard input."""
    return [*public, "--input", "-"]
