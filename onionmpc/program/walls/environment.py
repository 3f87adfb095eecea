"""Decides which environment variables a program gets: ours left out, and what libraries need inside the walls.

Knows the variables of the usual libraries for data. Without them, these look for caches in the home folder, for a
display, for a thread on each processor of a large machine, and for processes. It opens nothing: all folders named here
are in the program's scratch directory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from onionmpc.program.spec import ProgramSpec

# MPyC reads settings from the environment, past what was agreed on. Ours may contain the control port's password.
PRIVATE_PREFIXES = ("MPYC_", "ONIONMPC_")
# These two are each party's own choice: without gmpy2 or uvloop, a program sends messages of the same form.
OWN_SETTINGS = ("MPYC_NOGMPY", "MPYC_NOUVLOOP")
# A library for linear algebra starts a thread for each processor, and several libraries may do so in each party's
# program. On a machine with 64 processors, that can reach the limit of processes (RLIMIT_NPROC, or a container's), at
# which OpenBLAS ends the program. More than this many threads gain little at the matrices of one party.
MAX_THREADS = 8
# Importing numpy starts those threads, and OpenBLAS lets an idle one spin for many milliseconds before it sleeps. 2**20
# cycles are less than one. On two processors, an import of numpy then takes 0.10 s of processor time instead of 0.17 s,
# and products of matrices are as fast as before.
IDLE_SPIN_LOG2_CYCLES = 20


def environment_without_ours() -> dict[str, str]:
    """Return our environment without what a program must not see."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in OWN_SETTINGS or not name.startswith(PRIVATE_PREFIXES)
    }


def environment_of_program(spec: ProgramSpec, processors: int | None = None) -> dict[str, str]:
    """Return the environment of a program.

    Args:
        spec: what runs, with its scratch directory.
        processors: how many it may use; if None, as many as we may.
    """
    return {**_wishes(spec, processors or _usable_processors()), **environment_without_ours(), **_places(spec.scratch)}


def _wishes(spec: ProgramSpec, processors: int) -> Mapping[str, str]:
    """Return variables that the user's own environment may set otherwise."""
    # Read by OpenBLAS, MKL, BLIS and OpenMP. With it, scikit-learn does not run lscpu to count cores.
    wishes = {"OMP_NUM_THREADS": str(min(processors, MAX_THREADS))}
    wishes["OPENBLAS_THREAD_TIMEOUT"] = str(IDLE_SPIN_LOG2_CYCLES)
    # Under uvloop, nothing shows that programs wait for each other. It saves a tenth of a program's processor time.
    wishes["MPYC_NOUVLOOP"] = "1"
    # Without a namespace, joblib's processes cannot share locks: it does not start them by fork.
    if not spec.allow_subprocess or (spec.walls.files and not spec.walls.network):
        # joblib then does one job after another, where it would fail to start processes: for n_jobs in scikit-learn.
        wishes["JOBLIB_MULTIPROCESSING"] = "0"
    return wishes


def _places(scratch: str) -> Mapping[str, str]:
    """Return the places of temporary files and caches: those of the user's environment are out of reach."""
    cache = Path(scratch, "cache")
    return {
        "TMPDIR": scratch,
        "JOBLIB_TEMP_FOLDER": scratch,
        "XDG_CACHE_HOME": str(cache),
        "MPLCONFIGDIR": str(cache / "matplotlib"),
        "NUMBA_CACHE_DIR": str(cache / "numba"),
        # There is no display. A notebook sets a backend that works in its own process only.
        "MPLBACKEND": "agg",
    }


def _usable_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
