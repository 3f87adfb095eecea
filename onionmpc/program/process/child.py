"""The program process: MPyC and one script, with a socketpair per peer instead of a network.

Knows in which order things happen here: the walls before anything of the script, MPyC before the script, the guard
last. mpyc_seam.py connects MPyC. Run by launch.py beside it, never by people:
`python -m onionmpc.program.process.child DESCRIPTOR`.
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
    walls, rules = build_walls(spec)  # before there is a second thread, or anything of the script
    if not walls.hold(spec.walls):
        weaker = f"the walls around the program are weaker than was shown ({walls.describe()})"
        supervisor.stop(Notice("setup", None, weaker))
    supervisor.die_with_it()
    signal.signal(signal.SIGTERM, _terminated)
    # MPyC would log to stdout, which is the script's. If the root logger has a handler it adds none.
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO if spec.verbose else logging.WARNING, format="mpyc: %(message)s"
    )
    files = AgreedFiles(spec.code, spec.on_disk)
    try:
        files.guard_imports()  # MPyC and numpy are not to come from elsewhere either
        failures = _set_up_mpyc(spec, supervisor)
    except NotAgreed as error:
        sys.exit(f"onionmpc: error: {error}")
    stand_ins.install(walls, allow_subprocess=spec.allow_subprocess)
    set_guard(allow_subprocess=spec.allow_subprocess, watchers=Refusals(rules, supervisor.send).watchers())
    sys.argv = [spec.script, *spec.arguments]
    sys.path[0:0] = [spec.folder]  # scripts import their neighbours
    try:
        files.run(spec.script)
    except KeyboardInterrupt:
        # The supervisor got the same Ctrl-C, and says what there is to say.
        sys.exit(128 + signal.SIGINT)
    except Exception as error:  # noqa: BLE001 (whatever a script may raise)
        if not failures.caused(error):
            _print_traceback_of_script(error)
        elif failures.for_all:
            supervisor.send(Notice("failed", None, failures.for_all))
        if hint := _hint_for(error, rules):
            print(f"onionmpc: hint: {hint}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    finally:
        # Nobody is asked anything from here on, and Python would print a traceback of its own ending.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)


def _set_up_mpyc(spec: ProgramSpec, supervisor: Supervisor) -> Failures:
    """Import MPyC with arguments that make it one party of m, and connect it."""
    parties = [f"-Pparty{number}:{PLACEHOLDER_PORT}" for number in range(spec.parties)]
    sys.argv = [spec.script, *parties, "-I", str(spec.number), "-T", str(spec.threshold), *spec.mpyc_options]
    from onionmpc.program.process import mpyc_seam  # MPyC reads sys.argv; and it brings numpy, and that brings threads

    failures = Failures(mpyc_seam.event_loop())
    mpyc_seam.connect(spec, supervisor, failures)
    mpyc_seam.watch_outputs(supervisor)
    return failures


def _hint_for(error: Exception, rules: Rules) -> str:
    """Return what may help after an error that ended the script."""
    if is_of_another_loop(error):
        return OTHER_LOOP
    if isinstance(error, PermissionError):
        return reach_hint(rules)
    return hint_for(error) if isinstance(error, ModuleNotFoundError) else ""


def _terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    # As an exception, so that getpass gives the terminal its echo back.
    sys.exit(128 + signal.SIGTERM)


def _print_traceback_of_script(error: Exception) -> None:
    """Print the traceback without our own frames, and those of Python's import where our own are among them."""
    summary = traceback.TracebackException.from_exception(error)
    ours = {__file__, agreed.__file__}
    if isinstance(error, NotAgreed):
        ours |= {f"<frozen {name}>" for name in IMPORT}
    kept = [frame for frame in summary.stack if frame.filename not in ours]
    summary.stack = traceback.StackSummary.from_list(kept)
    print("".join(summary.format()), file=sys.stderr, end="")  # noqa: T201


if __name__ == "__main__":
    main()
