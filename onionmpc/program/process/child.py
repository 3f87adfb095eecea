"""The program process: MPyC and one script, with a socketpair per peer instead of a network.

Knows the order of steps: the walls first, then MPyC, the guard, and the script. mpyc_seam.py connects MPyC. launch.py
runs this module, and nobody else does: `python -m onionmpc.program.process.child DESCRIPTOR`.
"""

from __future__ import annotations

import logging
import signal
import sys
import traceback
from types import FrameType
from typing import NoReturn

from onionmpc.program.code import agreed
from onionmpc.program.code.agreed import AgreedFiles, NotAgreed
from onionmpc.program.code.missing import hint_for
from onionmpc.program.process.failures import OTHER_LOOP, Failures, is_of_another_loop
from onionmpc.program.process.supervisor import Supervisor
from onionmpc.program.spec import Notice, ProgramSpec
from onionmpc.program.walls import stand_ins
from onionmpc.program.walls.build import Rules, build_walls
from onionmpc.program.walls.guard import set_guard
from onionmpc.program.walls.refusals import Refusals, reach_hint

IMPORT = ("importlib._bootstrap", "importlib._bootstrap_external", "zipimport")
PLACEHOLDER_PORT = 1  # never used: nothing connects by port here


def main() -> None:
    """Run the script that the supervisor names."""
    supervisor = Supervisor(int(sys.argv[1]))
    spec = supervisor.read_spec()
    walls, rules = build_walls(spec)  # before any second thread: Landlock and seccomp bind only the calling thread
    if not walls.hold(spec.walls):
        weaker = f"the walls around the program are weaker than the ones that were shown ({walls.describe()})"
        supervisor.stop(Notice("setup", None, weaker))
    supervisor.listen()  # starts a thread
    signal.signal(signal.SIGTERM, _terminated)
    # MPyC would log to stdout, which belongs to the script. It adds no handler if the root logger has one.
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO if spec.verbose else logging.WARNING, format="mpyc: %(message)s"
    )
    files = AgreedFiles(spec.code, spec.on_disk)
    try:
        files.guard_imports()  # before MPyC: PYTHONPATH could put another mpyc or numpy in its place
        failures = _set_up_mpyc(spec, supervisor)
    except NotAgreed as error:
        sys.exit(f"onionmpc: error: {error}")
    stand_ins.install(walls, allow_subprocess=spec.allow_subprocess)
    # After our own imports, so that it judges and reports only what the script does.
    set_guard(allow_subprocess=spec.allow_subprocess, watchers=Refusals(rules, supervisor.send).watchers())
    sys.argv = [spec.script, *spec.arguments]
    sys.path[0:0] = [spec.folder]  # scripts import the modules beside them
    try:
        files.run(spec.script)
    except KeyboardInterrupt:
        # The supervisor got the same Ctrl-C and reports it.
        sys.exit(128 + signal.SIGINT)
    except Exception as error:  # noqa: BLE001 (a script may raise anything)
        if not failures.caused(error):
            _print_traceback_of_script(error)
        elif failures.for_peers:
            supervisor.send(Notice("failed", None, failures.for_peers))
        if hint := _hint_for(error, rules):
            print(f"onionmpc: hint: {hint}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    finally:
        # The script is over, so no prompt needs the exception of _terminated(). While the interpreter shuts down, it
        # would only print a traceback.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)


def _set_up_mpyc(spec: ProgramSpec, supervisor: Supervisor) -> Failures:
    """Import MPyC with arguments that make it one party of m, and connect it."""
    parties = [f"-Pparty{number}:{PLACEHOLDER_PORT}" for number in range(spec.parties)]
    sys.argv = [spec.script, *parties, "-I", str(spec.number), "-T", str(spec.threshold), *spec.mpyc_options]
    # Not at the top of this module: MPyC reads sys.argv, and numpy starts threads, which must be inside the walls.
    from onionmpc.program.process import mpyc_seam

    failures = Failures(mpyc_seam.event_loop())
    mpyc_seam.connect(spec, supervisor, failures)
    mpyc_seam.watch_outputs(supervisor)
    return failures


def _hint_for(error: Exception, rules: Rules) -> str:
    """Return a hint for an error that ended the script; empty if there is none."""
    if is_of_another_loop(error):
        return OTHER_LOOP
    if isinstance(error, PermissionError):
        return reach_hint(rules)
    return hint_for(error) if isinstance(error, ModuleNotFoundError) else ""


def _terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    # An exception runs the script's `finally` blocks: getpass turns the terminal's echo on again in one.
    sys.exit(128 + signal.SIGTERM)


def _print_traceback_of_script(error: Exception) -> None:
    """Print the traceback without our frames. Without those of Python's imports too, if an import of ours was refused.

    The author of a script looks for a line of it; onionmpc's frames would only hide that.
    """
    summary = traceback.TracebackException.from_exception(error)
    ours = {__file__, agreed.__file__}
    if isinstance(error, NotAgreed):
        ours |= {f"<frozen {name}>" for name in IMPORT}
    kept = [frame for frame in summary.stack if frame.filename not in ours]
    summary.stack = traceback.StackSummary.from_list(kept)
    print("".join(summary.format()), file=sys.stderr, end="")  # noqa: T201


if __name__ == "__main__":
    main()
