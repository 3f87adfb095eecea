"""Relays, their descriptors, and the layer guards drawn from them."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from onionmpc.tor.circuit.layers import (
    Guard,
    Layers,
)

NOW_S = 1_800_000_000


def everyone(layers: Layers) -> tuple[Guard, ...]:
    return layers.layer2 + layers.layer3


def fingerprints(guards: Iterable[Guard]) -> list[str]:
    return [guard.fingerprint for guard in guards]


def entry(
    number: int, flags: str = "Fast Running Stable Valid", weight: str = "w Bandwidth=7", address: str = ""
) -> str:
    identity = base64.b64encode(number.to_bytes(20, "big")).decode().rstrip("=")
    address = address or f"10.{number}.0.1"
    return (
        f"r relay{number} {identity} AAAAAAAAAAAAAAAAAAAAAAAAAAA 2038-01-01 00:00:00 {address} 9001 0\n"
        f"a [2001:db8::1]:9001\ns {flags}\n{weight}"
    )


DESCRIPTOR = """onion-key
ntor-onion-key 4CpWyDdvTtDvBBxlFjlAjvOxKSnYHRFGKBmXwyMQ7Q8
{}
id ed25519 kXBg6k4/eWjzjrY3G+CJRy9GnXTSXyTBzhiQl8KU4oo
"""
