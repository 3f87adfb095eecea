"""A program that tries to get out: by Python, and past it by C. Writes what it reached as JSON.

Run as a program of its own (`TRIES`), walled in or not. Arguments: a JSON object of targets, and where to write.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
TIOCSTI = 0x5412
IO_URING_SETUP = 425  # the same on all architectures

Try = Callable[[dict[str, Any]], object]
TRIES: dict[str, Try] = {}


def attempt(work: Try) -> Try:
    TRIES[work.__name__] = work
    return work


# -- by Python


@attempt
def tcp(target: dict[str, Any]) -> object:
    return socket.create_connection(("127.0.0.1", target["tcp"]), timeout=5)


@attempt
def udp(target: dict[str, Any]) -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        return end.sendto(b"out", ("127.0.0.1", target["udp"]))


@attempt
def look_up(_: dict[str, Any]) -> object:
    return socket.getaddrinfo("localhost", 80)


@attempt
def raw_socket(_: dict[str, Any]) -> object:
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)


@attempt
def listen(_: dict[str, Any]) -> object:
    return socket.create_server(("127.0.0.1", 0))


@attempt
def subprocess_fetches(target: dict[str, Any]) -> object:
    code = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5)"
    subprocess.run([sys.executable, "-c", code, str(target["tcp"])], check=True, stderr=subprocess.DEVNULL, timeout=30)
    return True


@attempt
def fork(_: dict[str, Any]) -> object:
    child = os.fork()
    if not child:
        os._exit(0)
    return os.waitpid(child, 0)


@attempt
def control_socket(target: dict[str, Any]) -> object:
    with socket.socket(socket.AF_UNIX) as end:
        end.settimeout(5)
        end.connect(target["control"])
        return True


@attempt
def key_file(target: dict[str, Any]) -> object:
    return Path(target["key"]).read_bytes()


@attempt
def key_file_by_link(target: dict[str, Any]) -> object:
    return Path(f"/proc/self/root{target['key']}").read_bytes()


@attempt
def key_names(target: dict[str, Any]) -> object:
    return list(Path(target["key"]).parent.iterdir())


@attempt
def key_file_changed(target: dict[str, Any]) -> object:
    path = Path(target["victim"])
    for change in (
        lambda: os.truncate(path, 0),
        lambda: path.chmod(0o666),
        lambda: path.write_text("mine"),
        lambda: path.rename(path.with_name("moved")),
        lambda: path.unlink(),
    ):
        try:
            return change() is None
        except PermissionError:
            continue
    raise PermissionError


@attempt
def cookie(target: dict[str, Any]) -> object:
    return Path(target["cookie"]).read_bytes()


@attempt
def memory_of_supervisor(_: dict[str, Any]) -> object:
    return Path(f"/proc/{os.getppid()}/mem").open("rb")


@attempt
def environment_of_supervisor(_: dict[str, Any]) -> object:
    return Path(f"/proc/{os.getppid()}/environ").read_bytes()


@attempt
def descriptors_of_supervisor(_: dict[str, Any]) -> object:
    return [Path(f"/proc/{os.getppid()}/fd/{number}").readlink() for number in (0, 1, 2)]


@attempt
def command_line_of_others(_: dict[str, Any]) -> object:
    return Path("/proc/1/cmdline").read_bytes()


@attempt
def signal_to_supervisor(_: dict[str, Any]) -> object:
    os.kill(os.getppid(), 0)
    return True


@attempt
def signal_to_group(_: dict[str, Any]) -> object:
    os.kill(0, 0)
    return True


@attempt
def limits_of_supervisor(_: dict[str, Any]) -> object:
    return resource.prlimit(os.getppid(), resource.RLIMIT_CORE)


@attempt
def name_of_machine(_: dict[str, Any]) -> object:
    return Path("/etc/hostname").read_bytes()


@attempt
def host_name(_: dict[str, Any]) -> object:
    return os.uname().nodename != "localhost"


@attempt
def writing_in_python(_: dict[str, Any]) -> object:
    path = Path(json.__file__).with_name("onionmpc-test-was-here")
    path.touch()
    path.unlink()
    return True


# -- by C, past any guard in Python


def checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


def c_socket(family: int, kind: int, protocol: int = 0) -> int:
    return checked(LIBC.socket(family, kind, protocol))


@attempt
def c_tcp(target: dict[str, Any]) -> object:
    address = struct.pack("=H", socket.AF_INET) + struct.pack(">H", target["tcp"]) + socket.inet_aton("127.0.0.1")
    return checked(LIBC.connect(c_socket(socket.AF_INET, socket.SOCK_STREAM), address + bytes(8), 16)) == 0


@attempt
def c_udp(_: dict[str, Any]) -> object:
    return c_socket(socket.AF_INET, socket.SOCK_DGRAM)


@attempt
def c_netlink(_: dict[str, Any]) -> object:
    return c_socket(16, socket.SOCK_RAW)


@attempt
def c_control_socket(target: dict[str, Any]) -> object:
    address = struct.pack("=H", socket.AF_UNIX) + os.fsencode(target["control"]) + b"\0"
    return checked(LIBC.connect(c_socket(socket.AF_UNIX, socket.SOCK_STREAM), address, len(address))) == 0


@attempt
def c_datagram_of_a_pair(target: dict[str, Any]) -> object:
    pair = (ctypes.c_int * 2)()
    checked(LIBC.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM, 0, pair))
    address = struct.pack("=H", socket.AF_UNIX) + os.fsencode(target["datagrams"]) + b"\0"
    return checked(LIBC.sendto(pair[0], b"out", 3, 0, address, len(address)))


@attempt
def c_io_uring(_: dict[str, Any]) -> object:
    return checked(LIBC.syscall(IO_URING_SETUP, 1, ctypes.create_string_buffer(256)))


@attempt
def c_memory_of_supervisor(_: dict[str, Any]) -> object:
    buffer = ctypes.create_string_buffer(8)
    local = struct.pack("@PN", ctypes.addressof(buffer), 8)
    # The supervisor runs the same Python: unmapped here or there, what answers is EFAULT and not EPERM.
    remote = struct.pack("@PN", ctypes.addressof(buffer), 8)
    got = LIBC.process_vm_readv(os.getppid(), local, 1, remote, 1, 0)
    return got > 0 or ctypes.get_errno() == errno.EFAULT


@attempt
def c_traced_supervisor(_: dict[str, Any]) -> object:
    seize = 0x4206
    return checked(LIBC.ptrace(seize, os.getppid(), None, None)) == 0


@attempt
def c_fork_and_exec(target: dict[str, Any]) -> object:
    child = LIBC.fork()
    if not child:
        LIBC.execv(b"/bin/true", (ctypes.c_char_p * 2)(b"/bin/true", None))
        os._exit(1)
    return os.waitpid(child, 0)[1] == 0


@attempt
def c_typed_into_terminal(_: dict[str, Any]) -> object:
    terminal, _name = os.openpty()
    # Not ours to type into, so EPERM either way; high bits must make no difference.
    ctypes.set_errno(0)
    LIBC.ioctl(terminal, ctypes.c_ulong(TIOCSTI | 1 << 40), b"x")
    return ctypes.get_errno() not in (errno.EPERM, errno.EACCES)


@attempt
def c_keyring(_: dict[str, Any]) -> object:
    numbers = {"x86_64": 250, "aarch64": 219, "riscv64": 219}
    return checked(LIBC.syscall(numbers[os.uname().machine], 0, -3, 1))


@attempt
def c_new_namespace(_: dict[str, Any]) -> object:
    child = LIBC.fork()
    if not child:
        os._exit(LIBC.unshare(0x10000000) and 1)
    return os.waitpid(child, 0)[1] == 0


# -- what it is to have


def thread() -> None:
    other = threading.Thread(target=int)
    other.start()
    other.join()


def allowed(target: dict[str, Any]) -> list[str]:
    """Return what of its own a program could not do."""
    failed = []
    for name, work in {
        "reads its input": lambda: Path(target["input"]).read_text(),
        "reads its folder": lambda: Path(sys.argv[0]).read_text(),
        "lists its folder": lambda: list(Path(sys.argv[0]).parent.iterdir()),
        "writes, moves and removes": lambda: (
            Path(target["output"]).write_text("x"),
            Path(target["output"]).rename(target["output"] + "2"),
            Path(target["output"] + "2").unlink(),
        ),
        "has temporary files": lambda: tempfile.mkdtemp(),
        "makes pairs": lambda: [end.send(b"x") for end in list(socket.socketpair())],
        "draws randomness": lambda: os.close(os.open("/dev/urandom", os.O_RDONLY)),
        "sends itself signals": lambda: os.kill(os.getpid(), 0),
        "starts threads": thread,
        "imports": lambda: __import__("decimal"),
    }.items():
        try:
            work()
        except OSError as error:
            failed.append(f"{name}: {error}")
    return failed


def main() -> None:
    target = json.loads(sys.argv[1])
    reached = []
    for name, work in TRIES.items():
        try:
            if work(target):
                reached.append(name)
        except (OSError, subprocess.SubprocessError):
            continue
    Path(sys.argv[2]).write_text(json.dumps({"reached": reached, "lacks": allowed(target), "tried": list(TRIES)}))


if __name__ == "__main__":
    main()
