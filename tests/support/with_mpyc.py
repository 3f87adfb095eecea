"""Runs a script with MPyC and the replacement for pickle, in a process of its own."""

from __future__ import annotations

import subprocess
import sys


def run_with_mpyc(script: str) -> None:
    """Run a script in its own process: on import, MPyC reads sys.argv and sets up logging."""
    command = [sys.executable, "-c", SCRIPT_START + script, "--no-log"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


SCRIPT_START = """
import time
import tracemalloc
import numpy
from mpyc import fingroups, finfields, gfpx
from onionmpc.errors import ProgramError, RemoteProtocolError
from onionmpc.program.pickles.unpickle import RestrictedPickle
from onionmpc.program.values import BUILDERS
from tests.support.pickle_attacks import call

restricted = RestrictedPickle()

def there_and_back(value):
    received, = restricted.loads(restricted.dumps([value]))
    assert type(received) is type(value), (value, received)
    return received

def refused(data, reason):
    try:
        restricted.loads(data)
    except RemoteProtocolError as error:
        assert reason in str(error), error
    else:
        raise AssertionError("it was taken")

def built(name, *arguments):
    return restricted.loads(call("onionmpc.program.values", name, *arguments))

def not_built(reason, name, *arguments):
    refused(call("onionmpc.program.values", name, *arguments), reason)

def not_sent(value, reason):
    try:
        restricted.dumps([value])
    except ProgramError as error:
        assert reason in f"{error} {error.hint}", (error, error.hint)
    else:
        raise AssertionError("it was sent")

def names_of_types():
    return [set(vars(module)) for module in (gfpx, finfields, fingroups)]
"""
