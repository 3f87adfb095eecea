"""The walls around the program process: what a script can reach, whatever it does.

Knows in which order walls are built, and what they are about: files and folders (reachable.py says which), the network,
calls of the kernel, other processes. namespaces, landlock, seccomp and linux beside it build each. Rules:
docs/THREATS.md.

Run as `python -m onionmpc.program.walls.build`, it walls itself in and says how far it got.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from onionmpc.errors import LocalProtocolError
from onionmpc.machine import SHARED_MEMORY
from onionmpc.program.spec import NO_WALLS, ProgramSpec, Walls, encode
from onionmpc.program.walls import landlock, linux, namespaces, seccomp
from onionmpc.program.walls.reachable import python_folders, read_only, readable, resolved, wanted, writable

KERNEL_SAYS = ("/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
# Where sockets and keys of ours and of others lie, for kernels that cannot say what may be opened.
SECRETS = ("/run", "/dev/shm", "/var/lib/tor")  # noqa: S108
OUR_SOCKETS = ("/tmp", "onionmpc.*")  # noqa: S108

Rules = Sequence[tuple[Path, int]]  # a file, or a folder with all that is below it, and Landlock's rights there

# MPyC's own settings may come by environment, past what was agreed; ours may hold the control port's password.
PRIVATE_PREFIXES = ("MPYC_", "ONIONMPC_")


def build_walls(spec: ProgramSpec) -> tuple[Walls, Rules]:
    """Wall this process in as far as this machine can; it must have no second thread yet.

    Returns:
        What stands, and what the program may open; no rules where it may open everything.
    """
    if sys.platform != "linux":
        return NO_WALLS, ()
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise LocalProtocolError("a thread was started before the walls, and would be outside of them")
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    network = namespaces.leave_network()
    mounted = list(_mount(spec)) if network else []  # before the rules, which are about what is seen then
    frozen = network and _freeze(spec, mounted)
    shared = network and namespaces.own_shared_memory()
    rules = tuple(_rules(spec, mounted, network=network, shared=shared))
    files = landlock.restrict_files(rules)
    linux.drop_capabilities()
    # Also while we are stopped, or a long call into C lets no thread run. It ends with a change of capabilities.
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    sockets = seccomp.refuse_calls(seccomp.Reach(alone=not spec.allow_subprocess, apart=network, frozen=frozen))
    keep_memory_private()
    hidden = [place for place in map(Path, spec.hidden) if place.is_dir()]
    secrets = files or (network and all(resolved(place) in mounted for place in hidden))
    walls = Walls(network=network, sockets=sockets, secrets=secrets, files=files, frozen=frozen)
    return walls, rules if files else ()


def environment_of_program() -> dict[str, str]:
    """Return the variables that a program may see."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PRIVATE_PREFIXES)}


def keep_memory_private() -> None:
    """Let no other process without rights of its own look into this one, and leave no core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        linux.prctl(linux.PR_SET_DUMPABLE, 0)


def _mount(spec: ProgramSpec) -> Iterator[Path]:
    """Take what it must not get out of the folders that it gets; yield those places."""
    asked = list(wanted(spec))
    opens_all = not landlock.version()
    for place in map(resolved, map(Path, spec.hidden)):
        if (opens_all or any(place.is_relative_to(path) for path in asked)) and namespaces.cover(place):
            yield place
    for place in _secrets() if opens_all else ():
        if not any(path.is_relative_to(place) for path in [*asked, Path(spec.scratch)]):
            namespaces.cover(place)
    for place in [*python_folders(), *read_only(spec)]:
        inside = any(place.is_relative_to(path) and place != path for path in asked)
        if (opens_all or inside) and namespaces.freeze(place):
            yield place


def _freeze(spec: ProgramSpec, mounted: Sequence[Path]) -> bool:
    """Make all read-only but what it may write: Landlock sees no change of a mode, an owner or a time."""
    namespaces.reopen_streams()
    places = {path for path in writable(spec, mounted) if path.exists()}
    outermost = [path for path in places if not any(parent in places for parent in path.parents)]
    return namespaces.freeze_all_but(sorted(outermost))


def _secrets() -> list[Path]:
    """Return what is covered where all else is open: a list with gaps, and better than none."""
    directory, pattern = OUR_SOCKETS
    return [*map(Path, SECRETS), *Path(directory).glob(pattern)]


def _rules(spec: ProgramSpec, mounted: Sequence[Path], *, network: bool, shared: bool) -> Iterator[tuple[Path, int]]:
    """Yield what the program may open, and how."""
    # Who may start nothing may execute nothing; and what may be started is walled in as we are.
    read = landlock.READ | landlock.EXECUTE if spec.allow_subprocess else landlock.READ
    for path in readable(spec, mounted):
        yield path, read
    for path in writable(spec, mounted):
        yield path, landlock.READ | landlock.WRITE
    for name in DEVICES:
        yield Path(name), landlock.READ_FILE | landlock.WRITE_FILE | landlock.IOCTL_DEV
    for name in KERNEL_SAYS:
        yield Path(name), landlock.READ
    if shared:
        yield SHARED_MEMORY, landlock.READ | landlock.WRITE
    if network:  # otherwise our own /proc/self/net would have this machine's addresses
        yield Path("/proc/self").resolve(), landlock.READ


def main() -> None:
    """Wall this process in as the program process is, and write how far that got."""
    folder = str(Path(__file__).parent)
    spec = ProgramSpec("", folder, (), number=0, parties=1, threshold=0, mpyc_options=(), sockets={}, hidden=("/run",))
    sys.stdout.buffer.write(encode(build_walls(spec)[0]))


if __name__ == "__main__":
    main()
