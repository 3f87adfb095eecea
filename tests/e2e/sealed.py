"""Runs a command in an empty network namespace, and hands out a socket that receives all its packets.

`python -I -S sealed.py CHANNEL WORD...`: that socket goes over the unix socket that is inherited as descriptor CHANNEL.
Each address is taken for one of this machine's, so that a packet to wherever does leave its process, is seen, and is
refused. Unix sockets with a path reach across the border. Knows Linux; stands on nothing of onionmpc's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import sys
from pathlib import Path

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
EVERY_PROTOCOL = 0x0003  # ETH_P_ALL
LOOPBACK = 1  # its index in every network
# rtnetlink(7)
RTM_NEWLINK, RTM_NEWROUTE = 16, 24
REQUEST, ACKNOWLEDGED, NEW = 1, 4, 0x400
UP = 1
RT_TABLE_LOCAL, RTPROT_STATIC, RT_SCOPE_HOST, RTN_LOCAL, RTA_OIF = 255, 4, 254, 2, 4


def leave_network() -> None:
    """Enter an empty network namespace. Root does so without a user namespace, and can return."""
    user, group = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) == 0:
        return
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "no network namespace can be made")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def use_network() -> None:
    """Bring loopback up, and allow any user to bind each of its ports."""
    Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("0")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        ask(kernel, RTM_NEWLINK, 0, struct.pack("=BxHiII", socket.AF_UNSPEC, 0, LOOPBACK, UP, UP))


def take_everything() -> None:
    """Make every address local."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        take_family(kernel, socket.AF_INET)
        with contextlib.suppress(OSError):  # a machine that has no IPv6 sends none
            take_family(kernel, socket.AF_INET6)


def take_family(kernel: socket.socket, family: int) -> None:
    """Make every address of a family local."""
    route = struct.pack("=8BI", family, 0, 0, 0, RT_TABLE_LOCAL, RTPROT_STATIC, RT_SCOPE_HOST, RTN_LOCAL, 0)
    ask(kernel, RTM_NEWROUTE, NEW, route + struct.pack("=HHI", 8, RTA_OIF, LOOPBACK))


def ask(kernel: socket.socket, kind: int, flags: int, body: bytes) -> None:
    """Send the kernel a netlink request."""
    kernel.send(struct.pack("=IHHII", 16 + len(body), kind, REQUEST | ACKNOWLEDGED | flags, 1, 0) + body)
    (error,) = struct.unpack_from("=i", kernel.recv(4096), 16)
    if error:
        raise OSError(-error, os.strerror(-error))


def main(channel: str, *command: str) -> None:
    """Become the command."""
    leave_network()
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(EVERY_PROTOCOL)) as packets:
        use_network()
        take_everything()
        with socket.socket(fileno=int(channel)) as out:
            socket.send_fds(out, [b"."], [packets.fileno()])
    os.execv(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
