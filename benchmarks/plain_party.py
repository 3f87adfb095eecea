"""Runs an MPyC script as MPyC does, but listening on 127.0.0.1 where MPyC listens on all interfaces.

Usage: plain_party.py SCRIPT [ARGUMENT...], MPyC's own options among the arguments.
"""

from __future__ import annotations

import functools
import runpy
import sys
from pathlib import Path

sys.argv = sys.argv[1:]
sys.path[0] = str(Path(sys.argv[0]).parent)

from mpyc.runtime import mpc  # noqa: E402 (reads sys.argv when it is imported)

loop = mpc._loop  # noqa: SLF001 (the one place where MPyC can be told)
loop.create_server = functools.partial(loop.create_server, host="127.0.0.1")
runpy.run_path(sys.argv[0], run_name="__main__")
