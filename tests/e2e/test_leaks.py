"""The watches that tell what gets out of a party see what they are there for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from leaks import (
    Watch,
    can_seal,
    open_sockets,
    reached,
    spellings,
    told,
)

LEAK_S = 60.0
NO_NETWORKS = "nobody may make a network namespace on this machine: only audit events and /proc were looked at"
# All that a party has to do with, by the names of its sockets.
OF_TOR = frozenset({"control", "socks", "party"})


# --- The watches see what they are there for -----------------------------------------------------------------------

LEAKS = {
    "nothing": "",
    "a look-up": "socket.getaddrinfo(name, 80)",
    "a datagram": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'.', ('127.0.0.1', 9))",
    "a datagram by IPv6": "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b'.', ('::1', 9))",
    "a connection": "socket.socket().connect_ex(('127.0.0.1', 9))",
    "a look-up in C": "ctypes.CDLL(None).getaddrinfo(name.encode(), b'80', None, ctypes.byref(ctypes.c_void_p()))",
    "a datagram in C": "ctypes.CDLL(None).sendto(ctypes.CDLL(None).socket(2, 2, 0), b'.', 1, 0, "
    "struct.pack('=H2s4s8x', 2, bytes([0, 9]), bytes([127, 0, 0, 1])), 16)",
    "a port of ours": "socket.create_server(('127.0.0.1', 0))",
    "another daemon's socket": "socket.socket(socket.AF_UNIX).connect_ex('/run/nowhere/resolver')",
    "a socket without a place": "socket.socket(socket.AF_UNIX).bind(b'\\0abstract')",
}
# No packet tells of these, and no audit event of those.
WITHOUT_PACKETS = {"nothing", "a port of ours", "another daemon's socket", "a socket without a place"}
WITHOUT_NOTES = {"nothing", "a look-up in C", "a datagram in C"}


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="the watches are Linux's")
@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "audited"])
@pytest.mark.parametrize("leak", LEAKS)
def test_a_supervisor_that_leaks_is_seen(tmp_path: Path, leak: str, sealed: bool) -> None:
    if sealed and not can_seal():
        pytest.skip(NO_NETWORKS)
    if "IPv6" in leak and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    watch = Watch(tmp_path, sealed=sealed)
    outfit = watch.outfit("leaky")
    # Where packets do leave this machine, none does so for a test.
    name = "leak.invalid" if sealed else "127.0.0.1"
    code = f"""if True:
        import contextlib, ctypes, socket, struct
        name = {name!r}
        with contextlib.suppress(OSError):
            {LEAKS[leak] or "pass"}
        from onionmpc.cli.main import main
        main(["levels"])
    """
    subprocess.run(
        [*outfit.before, sys.executable, "-P", "-c", code],
        env={**os.environ, **outfit.environment},
        pass_fds=outfit.descriptors,
        capture_output=True,
        check=True,
        timeout=LEAK_S,
    )
    if sealed:
        assert bool(watch.packets()) == (leak not in WITHOUT_PACKETS)
    (notes,) = watch.notes().values()
    assert bool(reached(notes, OF_TOR)) == (leak not in WITHOUT_NOTES)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_socket_that_is_no_unix_socket_is_seen_in_a_running_process() -> None:
    code = """if True:
        import socket
        pair = socket.socketpair()
        kept = [eval(text) for text in input().split(";") if text]
        print("there", flush=True)
        input()
    """
    opened = {
        "": [],
        "socket.create_server(('127.0.0.1', 0))": ["it has a socket of tcp that listens"],
        "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)": ["it has a socket of an unknown kind"],
        "(s := socket.socket(socket.AF_INET, socket.SOCK_DGRAM), s.bind(('127.0.0.1', 0)))": ["it has a socket of udp"],
    }
    for text, found in opened.items():
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{text}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "there\n"
            assert open_sockets({process.pid: "it"}) == found
            assert open_sockets({process.pid: "tor"}) == [each.replace("it", "tor", 1) for each in found]
            process.stdin.write("\n")


def test_a_secret_is_found_however_it_is_written() -> None:
    secret = bytes(range(200, 232))
    for text in spellings("the seed", secret):
        assert told({"argv": f"--seed={text}=="}, spellings("the seed", secret))
    assert told({"argv": "--seed=none"}, spellings("the seed", secret)) == []
