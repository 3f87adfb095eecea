"""The walls around the program process: what a script can reach, whatever it does.

Knows what a program needs (Python, its own folder, what its person names) and what it must not get (other sockets than
those that it was given, key files, tor's directories, other processes). How a wall is built is known to namespaces,
landlock, seccomp and linux beside it. What is not said to be reachable is not: a list of what is forbidden would have
gaps. Rules: docs/THREATS.md.

Run as `python -m onionmpc.program.walls.build`, it walls itself in and says how far it got.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from onionmpc.errors import LocalProtocolError
from onionmpc.machine import SHARED_MEMORY, standing_in
from onionmpc.program.spec import NO_WALLS, ProgramSpec, Walls, encode
from onionmpc.program.walls import landlock, linux, namespaces, seccomp
from onionmpc.resources import PACKAGE

# What libraries read. Of /etc only this: what else is there tells which machine it is, or is root's alone.
SYSTEM_FOLDERS = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/nix/store", "/gnu/store")
LIBRARIES_READ = (
    *("ld.so.cache", "localtime", "timezone", "locale.alias", "nsswitch.conf", "passwd", "group", "mime.types"),
    *("inputrc", "alternatives"),
)
KERNEL_SAYS = ("/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
# Never more of it than what stands above, whoever names it.
HIDDEN = ("/proc", "/sys", "/dev", "/run", "/boot")
# Everybody's: a file there may be named, the whole folder not.
SHARED = ("/tmp", "/var/tmp", "/home", "/root")  # noqa: S108
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
    secrets = files or (network and all(_resolved(place) in mounted for place in hidden))
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
    wanted = list(_wanted(spec))
    opens_all = not landlock.version()
    for place in map(_resolved, map(Path, spec.hidden)):
        if (opens_all or any(place.is_relative_to(path) for path in wanted)) and namespaces.cover(place):
            yield place
    for place in _secrets() if opens_all else ():
        if not any(path.is_relative_to(place) for path in [*wanted, Path(spec.scratch)]):
            namespaces.cover(place)
    for place in [*_python(), *_read_only(spec)]:
        inside = any(place.is_relative_to(path) and place != path for path in wanted)
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


def readable(spec: ProgramSpec, mounted: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield what the program may read, with all that is below it.

    Args:
        mounted: what was taken out of it already.
    """
    own = _folders([Path(spec.folder)])
    if not own:
        own = list(Path(spec.folder).glob("*.py"))  # a script among all else that a person has
    etc = (Path("/etc") / name for name in LIBRARIES_READ)
    libraries = [*map(Path, SYSTEM_FOLDERS), *_python(), *etc]
    hidden = _hidden(spec)
    for path in [*libraries, *own, *map(Path, spec.reads), *_wanted(spec)]:
        yield from _without(path, hidden, mounted)


def writable(spec: ProgramSpec, mounted: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield where the program may write: where it stands, and what was named to it; but not in Python
    or what was agreed.

    Args:
        mounted: what was taken out of it already.
    """
    kept = _kept(spec)
    for path in _own(spec):
        yield from _without(path, kept, mounted)


class Places(NamedTuple):
    """Where a program stands to the folders of this machine; each with all that is below it.

    Attributes:
        own: where it may have made files, whose names are its own then.
        read: what it may read beside that.
        kept: where it never writes, whatever it is given.
        hidden: what it is never given.
    """

    own: list[Path]
    read: list[Path]
    kept: list[Path]
    hidden: list[Path]


def places(spec: ProgramSpec) -> Places:
    """Say it for one program, before it has started."""
    hidden = _hidden(spec)
    return Places(_own(spec), list(readable(spec, hidden)), _kept(spec), hidden)


def _own(spec: ProgramSpec) -> list[Path]:
    return [*_wanted(spec), *([Path(spec.scratch)] if spec.scratch else [])]


def _kept(spec: ProgramSpec) -> list[Path]:
    return [*_hidden(spec), *map(_resolved, map(Path, (*SYSTEM_FOLDERS, "/etc"))), *_python(), *_read_only(spec)]


def _python() -> list[Path]:
    """Python, and all that it imports from, onionmpc among it."""
    package = PACKAGE.resolve()
    names = (sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path)
    return [package, *_folders({_resolved(Path(name)) for name in names if name})]


def _read_only(spec: ProgramSpec) -> list[Path]:
    """Files and folders of the agreement: what was compared is to stay so, wherever it lies."""
    return [_resolved(Path(name)) for name in spec.reads]


def _wanted(spec: ProgramSpec) -> Iterator[Path]:
    """Yield where it stands, files and folders among the words, and the folder of a file that is yet to be written."""
    if here := standing_in():
        yield from _folders([here])
    for word in spec.named:
        # As an argument, after --option= and glued to a short option, as in -i/path.
        for text in (word, word.partition("=")[2], word[2:] if re.match("-[^-]", word) else ""):
            with contextlib.suppress(OSError, ValueError):  # too long, or a null byte
                path = _resolved(Path(text))
                if text and path.exists():
                    yield from _folders([path])
                elif "/" in text and path.parent.is_dir():
                    yield from _folders([path.parent])


def _folders(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if not os.path.isdir(path) or is_opened_whole(path)]  # noqa: PTH112 (may be closed)


def is_opened_whole(folder: Path) -> bool:
    """Tell whether a folder may be opened: it is no home, and nothing else that holds much that was not meant."""
    home = _resolved(Path(os.path.expanduser("~")))  # noqa: PTH111 (which fails where there is none)
    return not (home.is_relative_to(folder) or folder.parent in (folder, Path("/home")) or str(folder) in SHARED)


def _hidden(spec: ProgramSpec) -> list[Path]:
    return [_resolved(Path(name)) for name in (*HIDDEN, *spec.hidden)]


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except RuntimeError as error:  # links in a circle
        raise OSError(str(error)) from error


def _without(path: Path, hidden: Sequence[Path], mounted: Sequence[Path]) -> Iterator[Path]:
    """Yield a path; or all that is in it but what is hidden, as Landlock has no way to take a part away again."""
    if any(path.is_relative_to(place) for place in hidden):
        return
    if any(place.is_relative_to(path) and place not in mounted for place in hidden):
        for child in path.iterdir() if os.access(path, os.R_OK) else ():
            if not child.is_symlink():  # it may lead anywhere
                yield from _without(child, hidden, mounted)
    else:
        yield path


def main() -> None:
    """Wall this process in as the program process is, and write how far that got."""
    folder = str(Path(__file__).parent)
    spec = ProgramSpec("", folder, (), number=0, parties=1, threshold=0, mpyc_options=(), sockets={}, hidden=("/run",))
    sys.stdout.buffer.write(encode(build_walls(spec)[0]))


if __name__ == "__main__":
    main()
