"""A private network with an exit: one relay that asks a resolver of ours, and connects to loopback alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import cast

from onionmpc.files import private_directory, write_private
from onionmpc.testnet.network import PrivateNetwork
from onionmpc.tor.process.torrc import quote

EXIT = "relay00"
# A consensus sums a policy up by ports, so a policy for loopback alone would make no exit. The source address does it:
# from 127.0.0.1 the kernel connects nowhere else.
EXIT_TORRC = """
ExitRelay 1
ExitPolicyRejectPrivate 0
ExitPolicy accept *:*
OutboundBindAddressExit 127.0.0.1
ServerDNSResolvConfFile {resolv_conf}
ServerDNSDetectHijacking 0
"""
# RFC 1035 section 4.1: a response, with recursion; the code for a name that does not exist; types and classes.
HEADER_BYTES = 12
RESPONSE, NO_SUCH_NAME = 0x8180, 3
TYPE_A, CLASS_IN = 1, 1
# A pointer to the name in the question, then type, class, a minute to live and the length of the address.
ANSWER_HEAD = bytes.fromhex("c00c 0001 0001 0000003c 0004")


class Resolver(asyncio.DatagramProtocol):
    """A DNS server that knows a few names.

    Args:
        addresses: IPv4 addresses by name.

    Attributes:
        asked: the names that it was asked for, in lower case.
    """

    def __init__(self, addresses: Mapping[str, str]) -> None:
        self.asked: list[str] = []
        self._addresses = addresses

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the socket."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer a query: with an address, or that there is no such name."""
        labels, place = list[str](), HEADER_BYTES
        while length := data[place]:
            labels.append(data[place + 1 : place + 1 + length].decode("ascii"))
            place += 1 + length
        # The case of its letters is random, and the answer has to repeat it.
        question = data[HEADER_BYTES : place + 5]
        name = ".".join(labels).lower()
        self.asked.append(name)
        address = self._addresses.get(name)
        answered = address is not None and question[-4:] == TYPE_A.to_bytes(2) + CLASS_IN.to_bytes(2)
        code = RESPONSE if address is not None else RESPONSE | NO_SUCH_NAME
        counts = b"\0\1" + int(answered).to_bytes(2) + bytes(4)
        packet = data[:2] + code.to_bytes(2) + counts + question
        if answered and address is not None:
            packet += ANSWER_HEAD + bytes(map(int, address.split(".")))
        self._transport.sendto(packet, addr)


@contextlib.asynccontextmanager
async def network_with_exit(directory: Path, addresses: Mapping[str, str]) -> AsyncIterator[Resolver]:
    """Run a private network with an exit that knows these names."""
    loop = asyncio.get_running_loop()
    transport, resolver = await loop.create_datagram_endpoint(lambda: Resolver(addresses), local_addr=("127.0.0.1", 0))
    with contextlib.closing(transport):
        port = transport.get_extra_info("sockname")[1]
        resolv_conf = private_directory(directory) / "resolv.conf"
        write_private(resolv_conf, f"nameserver 127.0.0.1:{port}\n".encode())

        class ExitNetwork(PrivateNetwork):
            further_lines = {EXIT: EXIT_TORRC.format(resolv_conf=quote(resolv_conf))}  # noqa: RUF012

        async with ExitNetwork(directory, latency="none"):
            yield resolver
