"""Builds the walls around the program process, which bound what a script can reach.

Knows the order in which walls are built, and what they close off: files and folders (reachable.py says which), the
network, system calls and other processes. namespaces, landlock, seccomp and linux build one kind each. Rules:
docs/THREATS.md.

Run as `python -m onionmpc.program.walls.build`, it walls itself in and reports which walls it could build.
"""

from __future__ import annotations

import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from onionmpc.errors import LocalProtocolError
from onionmpc.machine import SHARED_MEMORY
from onionmpc.program.spec import NO_WALLS, ProgramSpec, Walls, encode
from onionmpc.program.walls import landlock, linux, namespaces, seccomp
from onionmpc.program.walls.reachable import granted, python_folders, read_only, readable, resolved, writable

KERNEL_FILES = ("/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu")
# How much processor time a container gets. Libraries that count processors (joblib) find these files and fail if they
# cannot read them. Nothing else of /sys/fs/cgroup is opened.
QUOTA_FILES = (
    *("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
# Places of sockets and keys, ours and others'. Covered on kernels without Landlock.
SECRETS = ("/run", "/dev/shm", "/var/lib/tor")  # noqa: S108
OUR_SOCKETS = ("/tmp", "onionmpc.*")  # noqa: S108

Rules = Sequence[tuple[Path, int]]  # a file, or a folder with all that is below it, and Landlock's rights there


def build_walls(spec: ProgramSpec) -> tuple[Walls, Rules]:
    """Build all walls around this process that this machine supports. It must have no second thread yet.

    Returns:
        The walls, and Landlock's rules; no rules if the program may open everything.
    """
    if sys.platform != "linux":
        return NO_WALLS, ()
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise LocalProtocolError("a thread was started before the walls, and would be outside of them")
    # The kernel demands it before Landlock and seccomp: a setuid program inside such walls could be tricked.
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    network = namespaces.leave_network()
    # Landlock refuses all later mounts, and its rules are about the files that are mounted now.
    mounted = list(_mount(spec)) if network else []
    frozen = network and _freeze(spec, mounted)
    shared = network and namespaces.own_shared_memory()
    rules = tuple(_rules(spec, mounted, network=network, shared=shared))
    files = landlock.restrict_files(rules)
    linux.drop_capabilities()
    # Kills even a stopped process, and one in a long call into C, where no thread of Python runs. After the namespaces:
    # the kernel clears this signal when a process gains capabilities, as in a new user namespace (commit_creds).
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    # After everything above: the filter refuses these calls.
    sockets = seccomp.refuse_calls(seccomp.Reach(alone=not spec.allow_subprocess, apart=network, frozen=frozen))
    # Last: it gives /proc/self to root, and the namespaces have to write there.
    keep_memory_private()
    hidden = [place for place in map(Path, spec.hidden) if place.is_dir()]
    secrets = files or (network and all(resolved(place) in mounted for place in hidden))
    walls = Walls(network=network, sockets=sockets, secrets=secrets, files=files, frozen=frozen)
    return walls, rules if files else ()


def keep_memory_private() -> None:
    """Keep unprivileged processes from reading the memory of this one, and write no core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        linux.prctl(linux.PR_SET_DUMPABLE, 0)


def _mount(spec: ProgramSpec) -> Iterator[Path]:
    """Cover or freeze the protected places inside folders that the program gets; yield those places.

    Landlock cannot take away a part of a folder that it has allowed.
    """
    given = list(granted(spec))
    opens_all = not landlock.version()
    for place in map(resolved, map(Path, spec.hidden)):
        if (opens_all or any(place.is_relative_to(path) for path in given)) and namespaces.cover(place):
            yield place
    for place in _secrets() if opens_all else ():
        if not any(path.is_relative_to(place) for path in [*given, Path(spec.scratch)]):
            namespaces.cover(place)
    for place in [*python_folders(), *read_only(spec)]:
        inside = any(place.is_relative_to(path) and place != path for path in given)
        if (opens_all or inside) and namespaces.freeze(place):
            yield place
    # Not yielded: where mounts are missing, the folder of a program must stay writable if its user starts it there.
    _freeze_code(spec, given)


def _freeze_code(spec: ProgramSpec, given: Sequence[Path]) -> None:
    """Keep a program that stands beside its own files from replacing them: its user may run them again, without walls.

    A mount can be neither removed nor renamed, but a folder with mounts in it can. So these folders become mounts, too.
    """
    for file in map(resolved, map(Path, sorted(spec.code))):
        around = [path for path in given if file.is_relative_to(path)]
        for folder in reversed(file.parents):
            if any(path in folder.parents for path in around):
                namespaces.pin(folder)
        if around:
            namespaces.freeze(file)


def _freeze(spec: ProgramSpec, mounted: Sequence[Path]) -> bool:
    """Make everything read-only except what the program may write: Landlock ignores modes, owners and times."""
    namespaces.reopen_streams()
    places = {path for path in writable(spec, mounted) if path.exists()}
    outermost = [path for path in places if not any(parent in places for parent in path.parents)]
    return namespaces.freeze_all_but(sorted(outermost))


def _secrets() -> list[Path]:
    """Return the places to cover if everything else is open. The list has gaps, but is better than none."""
    directory, pattern = OUR_SOCKETS
    return [*map(Path, SECRETS), *Path(directory).glob(pattern)]


def _rules(spec: ProgramSpec, mounted: Sequence[Path], *, network: bool, shared: bool) -> Iterator[tuple[Path, int]]:
    """Yield the paths that the program may open, and Landlock's rights there."""
    # A program that may start processes needs to execute files. These processes inherit the walls.
    read = landlock.READ | landlock.EXECUTE if spec.allow_subprocess else landlock.READ
    for path in readable(spec, mounted):
        yield path, read
    for path in writable(spec, mounted):
        yield path, landlock.READ | landlock.WRITE
    for name in DEVICES:
        yield Path(name), landlock.READ_FILE | landlock.WRITE_FILE | landlock.IOCTL_DEV
    for name in (*KERNEL_FILES, *QUOTA_FILES):
        yield Path(name), landlock.READ
    if shared:
        yield SHARED_MEMORY, landlock.READ | landlock.WRITE
    # Without a namespace, /proc/self/net shows this machine's addresses. But threadpoolctl needs the list of libraries
    # that the program has loaded, and scikit-learn needs threadpoolctl.
    yield Path("/proc/self").resolve() / ("" if network else "maps"), landlock.READ


def main() -> None:
    """Wall this process in like a program process, and write the walls to stdout."""
    folder = str(Path(__file__).parent)
    spec = ProgramSpec("", folder, (), number=0, parties=1, threshold=0, mpyc_options=(), hidden=("/run",))
    sys.stdout.buffer.write(encode(build_walls(spec)[0]))


if __name__ == "__main__":
    main()
