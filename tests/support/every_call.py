"""A program that tries every system call that is not simply allowed, and every way to touch what is not its own.

Run with one argument, a JSON object of targets (see `main`). It builds the walls around itself, as another user if that
is asked for, and writes as JSON what got through, and what of its own it could not do.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import resource
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from onionmpc.program.spec import ProgramSpec
from onionmpc.program.walls import landlock, linux, namespaces, seccomp, stand_ins
from onionmpc.program.walls.build import build_walls
from onionmpc.program.walls.syscalls import RULES, CallRule

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000
SIGEV_THREAD_ID = 4
ANSWERS = {
    **dict.fromkeys(
        (CallRule.SOCKETS, CallRule.OTHERS, CallRule.OWNERS, CallRule.WATCHES, CallRule.MACHINE, CallRule.SURFACE),
        errno.EPERM,
    ),
    **dict.fromkeys((CallRule.UNSEEN, CallRule.GONE), errno.ENOSYS),
    CallRule.LABELS: errno.EOPNOTSUPP,
    CallRule.STARTS: errno.EPERM,
}


def call(name: str, *arguments: int | bytes | ctypes.Array[Any] | None) -> int:
    """Call by number, past libc and whatever Python checks."""
    on = seccomp.machine()
    assert on is not None
    if name not in on.numbers:
        raise OSError(errno.ENOSYS, "not on this machine")
    given = (ctypes.c_long(each) if isinstance(each, int) else each for each in arguments)
    result = int(LIBC.syscall(ctypes.c_long(on.numbers[name]), *given))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def wrongly_answered() -> list[str]:
    """Call whatever is refused always, with arguments that mean nothing; return what else than the filter answered."""
    on = seccomp.machine()
    assert on is not None
    wrong = []
    for name, rule in RULES.items():
        if rule in ANSWERS and name in on.numbers:
            try:
                call(name, -1, -1, -1, -1, -1, -1)
                answer = 0
            except OSError as error:
                answer = error.errno or 0
            if answer != ANSWERS[rule]:
                wrong.append(f"{name}: {errno.errorcode.get(answer, answer)}")
    return wrong


# -- what belongs to others

Try = Callable[[], object]


def on_process(victim: int) -> dict[str, Try]:
    """Ways to signal, slow down, end or look into another process."""
    info = struct.pack("=iii", signal.SIGTERM, 0, -1) + bytes(116)
    mask = ctypes.create_string_buffer(b"\1" + bytes(127))
    pair = socket.socketpair()
    mine = pair[0].fileno()
    number = struct.pack("=i", victim)
    event = struct.pack("=Qiii", 0, signal.SIGTERM, SIGEV_THREAD_ID, victim) + bytes(64)
    limits = struct.pack("=QQ", 1, 1)
    attributes = struct.pack("=IIQiIQQQ", 48, 3, 0, 0, 0, 0, 0, 0)
    vector = struct.pack("=QQ", ctypes.addressof(mask), 8)
    now = os.getpriority(os.PRIO_PROCESS, 0)
    tries: dict[str, Try] = {
        "kill": lambda: call("kill", victim, signal.SIGTERM),
        "kill group": lambda: call("kill", 0, 0),
        "kill all": lambda: call("kill", -1, 0),
        "tkill": lambda: call("tkill", victim, signal.SIGTERM),
        "tgkill": lambda: call("tgkill", victim, victim, signal.SIGTERM),
        "rt_sigqueueinfo": lambda: call("rt_sigqueueinfo", victim, signal.SIGTERM, info),
        "rt_tgsigqueueinfo": lambda: call("rt_tgsigqueueinfo", victim, victim, signal.SIGTERM, info),
        "pidfd": lambda: call("pidfd_send_signal", call("pidfd_open", victim, 0), signal.SIGTERM, None, 0),
        "pidfd_open": lambda: call("pidfd_open", victim, 0),
        "F_SETOWN": lambda: call("fcntl", mine, 8, victim),
        "F_SETSIG": lambda: call("fcntl", mine, 10, signal.SIGKILL),
        "F_SETOWN_EX": lambda: call("fcntl", mine, 15, struct.pack("=ii", 1, victim)),
        "O_ASYNC": lambda: call("fcntl", mine, fcntl.F_SETFL, os.O_RDWR | seccomp.O_ASYNC),
        "FIOSETOWN": lambda: call("ioctl", mine, 0x8901, number),
        "SIOCSPGRP": lambda: call("ioctl", mine, 0x8902, number),
        "FIOASYNC": lambda: call("ioctl", mine, 0x5452, struct.pack("=i", 1)),
        "timer": lambda: call("timer_create", 0, event, ctypes.create_string_buffer(8)),
        "prlimit64": lambda: call("prlimit64", victim, int(resource.RLIMIT_CPU), limits, None),
        "setpriority": lambda: call("setpriority", os.PRIO_PROCESS, victim, 19),
        "setpriority of group": lambda: call("setpriority", os.PRIO_PGRP, 0, now),
        "setpriority of user": lambda: call("setpriority", os.PRIO_USER, 0, now),
        "ioprio_set": lambda: call("ioprio_set", 1, victim, 3 << 13),
        "ioprio_set of group": lambda: call("ioprio_set", 2, 0, 0),
        "sched_setaffinity": lambda: call("sched_setaffinity", victim, 128, mask),
        "sched_setparam": lambda: call("sched_setparam", victim, struct.pack("=i", 0)),
        "sched_setscheduler": lambda: call("sched_setscheduler", victim, 3, struct.pack("=i", 0)),
        "sched_setattr": lambda: call("sched_setattr", victim, attributes, 0),
        "migrate_pages": lambda: call("migrate_pages", victim, 64, mask, mask),
        "move_pages": lambda: call("move_pages", victim, 0, None, None, None, 0),
        "kcmp": lambda: call("kcmp", os.getpid(), victim, 1, 0, 0),
        "process_vm_readv": lambda: call("process_vm_readv", victim, vector, 1, vector, 1, 0),
        "ptrace": lambda: call("ptrace", 0x4206, victim, None, None),
        "PR_SET_PDEATHSIG": lambda: call("prctl", linux.PR_SET_PDEATHSIG, 0, 0, 0, 0),
        "PR_SCHED_CORE": lambda: call("prctl", seccomp.PR_SCHED_CORE, 1, victim, 0, 0),
    }

    def by_all_means() -> object:
        for name in ("F_SETOWN", "FIOSETOWN", "SIOCSPGRP", "F_SETOWN_EX", "F_SETSIG", "O_ASYNC", "FIOASYNC"):
            with contextlib.suppress(OSError):
                tries[name]()
        pair[1].send(b"x")
        raise PermissionError  # whether it did anything, the victim tells

    return tries | {"SIGIO": by_all_means}


def on_machine() -> dict[str, Try]:
    """Ways to ask which machine this is: any socket answers for the network that it is in."""
    mine = socket.socketpair()[0].detach()
    addresses = ctypes.create_string_buffer(2**12)
    name = b"lo".ljust(40, b"\0")
    return {
        "SIOCGIFCONF": lambda: call("ioctl", mine, 0x8912, struct.pack("@iP", 2**12, ctypes.addressof(addresses))),
        "SIOCGIFHWADDR": lambda: call("ioctl", mine, 0x8927, ctypes.create_string_buffer(name)),
        "SIOCGIFINDEX": lambda: call("ioctl", mine, 0x8933, ctypes.create_string_buffer(name)),
    }


def on_path(path: str, user: int) -> dict[str, Try]:
    """Ways to change, label or watch a file by its path."""
    name = os.fsencode(path)
    times = struct.pack("=qqqq", 1, 0, 1, 0)
    value = struct.pack("=QII", 0, 0, 0)
    return {
        "chmod": lambda: call("chmod", name, 0o777),
        "fchmodat": lambda: call("fchmodat", AT_FDCWD, name, 0o777),
        "fchmodat2": lambda: call("fchmodat2", AT_FDCWD, name, 0o777, 0),
        "chown": lambda: call("chown", name, user, user),
        "lchown": lambda: call("lchown", name, user, user),
        "fchownat": lambda: call("fchownat", AT_FDCWD, name, user, user, 0),
        "utime": lambda: call("utime", name, times[:16]),
        "utimes": lambda: call("utimes", name, times),
        "futimesat": lambda: call("futimesat", AT_FDCWD, name, times),
        "utimensat": lambda: call("utimensat", AT_FDCWD, name, times, 0),
        "setxattr": lambda: call("setxattr", name, b"user.x", b"1", 1, 0),
        "lsetxattr": lambda: call("lsetxattr", name, b"user.x", b"1", 1, 0),
        "setxattrat": lambda: call("setxattrat", AT_FDCWD, name, 0, b"user.x", value, len(value)),
        "getxattr": lambda: call("getxattr", name, b"user.old", None, 0),
        "listxattr": lambda: call("listxattr", name, None, 0),
        "removexattr": lambda: call("removexattr", name, b"user.old"),
        "truncate": lambda: call("truncate", name, 0),
        "file_setattr": lambda: call("file_setattr", AT_FDCWD, name, bytes(24), 24, 0),
        "inotify": lambda: call("inotify_add_watch", call("inotify_init1", 0), name, 0xFFF),
        "file handle": lambda: call(
            "name_to_handle_at", AT_FDCWD, name, struct.pack("=Ii", 128, 0) + bytes(128), None, 0
        ),
    }


def on_descriptor(number: int, user: int) -> dict[str, Try]:
    """Ways to change a file that was opened for reading."""
    by_link = on_path(f"/proc/self/fd/{number}", user)
    return {
        **{f"{name} by link": by_link[name] for name in ("chmod", "fchmodat", "utimensat", "setxattr", "chown")},
        "fchmod": lambda: call("fchmod", number, 0o777),
        "fchmodat2": lambda: call("fchmodat2", number, b"", 0o777, AT_EMPTY_PATH),
        "fchown": lambda: call("fchown", number, user, user),
        "fchownat": lambda: call("fchownat", number, b"", user, user, AT_EMPTY_PATH),
        "futimens": lambda: call("utimensat", number, None, struct.pack("=qqqq", 1, 0, 1, 0), 0),
        "fsetxattr": lambda: call("fsetxattr", number, b"user.x", b"1", 1, 0),
        "fremovexattr": lambda: call("fremovexattr", number, b"user.old"),
        "FS_IOC_SETFLAGS": lambda: call("ioctl", number, 0x40086602, struct.pack("=q", 0x80)),
        "FS_IOC_FSSETXATTR": lambda: call("ioctl", number, 0x401C5820, bytes(28)),
        "O_ASYNC": lambda: call("fcntl", number, fcntl.F_SETFL, os.O_RDONLY | seccomp.O_ASYNC),
        "F_SETLEASE": lambda: [call("fcntl", number, 1024, kind) for kind in (fcntl.F_RDLCK, fcntl.F_UNLCK)],
    }


def opened(path: str, *, flags: int) -> object:
    return call("openat", AT_FDCWD, os.fsencode(path), flags, 0)


def starts() -> dict[str, Try]:
    """Ways to run something else, which here nobody allowed."""

    def forked(name: str, *arguments: int) -> object:
        child = call(name, *arguments)
        if not child:
            os._exit(0)
        return os.waitpid(child, 0)

    def from_memory() -> object:
        program = call("memfd_create", b"true", 0)
        os.write(program, Path("/usr/bin/true").read_bytes())
        return call("execveat", program, b"", None, None, AT_EMPTY_PATH)

    return {
        "fork": lambda: forked("fork"),
        "clone": lambda: forked("clone", signal.SIGCHLD, 0, 0, 0, 0),
        "execve": lambda: call("execve", b"/usr/bin/true", None, None),
        "memory": from_memory,
    }


# -- what is its own


def lacks(*, changes: bool) -> list[str]:
    """Return what of its own this process could not do."""
    Path("folder/inner").mkdir(parents=True)
    Path("folder/file").write_text("content")

    def thread() -> None:
        other = threading.Thread(target=int)
        other.start()
        other.join()

    works: dict[str, Try] = {
        "copy": lambda: shutil.copy("folder/file", "copy"),
        "copy2": lambda: shutil.copy2("folder/file", "copy2"),
        "copytree": lambda: shutil.copytree("folder", "tree"),
        "move": lambda: shutil.move("copy", "tree/moved"),
        "temporary file": lambda: os.close(tempfile.mkstemp()[0]),
        "touch": lambda: Path("folder/file").touch(),
        "link": lambda: os.link("folder/file", "folder/link"),
        "remove": lambda: shutil.rmtree("tree"),
        "signal": lambda: os.kill(os.getpid(), 0),
        "affinity": lambda: os.sched_setaffinity(0, os.sched_getaffinity(0)),
        "affinity by number": lambda: os.sched_setaffinity(os.getpid(), os.sched_getaffinity(0)),
        "nice": lambda: os.nice(0),
        "priority": lambda: os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0)),
        "limits": lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
        "pair": lambda: [end.setblocking(False) for end in socket.socketpair()],
        "memory": lambda: os.close(os.memfd_create("x")),
        "thread": thread,
        "devices": lambda: Path("/dev/null").write_text("x"),
    }
    if changes:
        works["chmod"] = lambda: Path("folder/file").chmod(0o600)
        works["utime"] = lambda: os.utime("folder/file", (1, 1))
        works["truncate"] = lambda: os.truncate("folder/file", 1)
    failed = []
    for name, work in works.items():
        try:
            work()
        except (OSError, shutil.Error) as error:
            failed.append(f"{name}: {error}")
    return failed


def main() -> None:
    """Take targets: user, missing, folder, here, outside, victim. Standard input is a file to read."""
    target = json.loads(sys.argv[1])
    user = target["user"]
    modules = {"landlock": landlock, "namespaces": namespaces, "seccomp": seccomp}
    for name, value in target["missing"].items():
        module, _, function = name.partition(".")
        setattr(modules[module], function, lambda *_, value=value, **__: value)
    if user:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        linux.prctl(linux.PR_SET_DUMPABLE, 1)  # or its own /proc would be root's
    os.chdir(target["here"])
    tempfile.tempdir = target["here"]
    spec = ProgramSpec("", target["folder"], (), 0, 1, 0, ())
    walls, _ = build_walls(spec)
    stand_ins.install(walls, allow_subprocess=False)
    readable = str(Path(target["folder"]) / "module.py")
    given = os.open(readable, os.O_RDONLY)
    pathless = os.open(target["outside"], os.O_PATH)
    ways = {
        "process": on_process(target["victim"]),
        "machine": on_machine(),
        "outside": on_path(target["outside"], user),
        "folder outside": on_path(str(Path(target["outside"]).parent), user),
        "readable": on_path(readable, user),
        "O_PATH": on_path(f"/proc/self/fd/{pathless}", user),
        "opened": on_descriptor(given, user),
        "stdin": on_descriptor(0, user),
        "terminal": on_descriptor(2, user),
        "open": {
            "O_TRUNC": lambda: opened(readable, flags=os.O_RDONLY | os.O_TRUNC),
            "O_TRUNC and neither": lambda: opened(readable, flags=3 | os.O_TRUNC),
        },
    }
    if walls.sockets:
        ways["starts"] = starts()  # which would replace this program
    through = []
    for kind, tries in ways.items():
        for name, way in tries.items():
            try:
                way()
                through.append(f"{kind}: {name}")
            except OSError:
                continue
    told = {"through": through, "wrong": wrongly_answered() if walls.sockets else []}
    told["lacks"] = lacks(changes=walls.frozen or not walls.sockets)
    sys.stdout.write(json.dumps(told | {"frozen": walls.frozen, "files": walls.files, "network": walls.network}))


if __name__ == "__main__":
    main()
