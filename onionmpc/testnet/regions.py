"""The region of each tor of the test network, and the latency between regions.

Knows the table of regions, its file format and the address scheme. Does not know processes or sockets. The table is
regions.toml beside this file. `testnet up` copies it into its directory, where users can edit it.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from onionmpc.errors import UsageError

# The latency between tors: by the table of regions, none, or the same one-way latency for all, in milliseconds.
Latency = Literal["regions", "none"] | float

TABLE_NAME = "regions.toml"
SHIPPED_TABLE = Path(__file__).with_name(TABLE_NAME)

# With more, tor's own timers (circuit build timeout, voting) decide what happens, and not the latency.
MAX_ONE_WAY_MS = 500.0
# All of 127.0.0.0/8 is this machine. Each relay has its own /16, 127.10 to 127.79, because no two guards of a layer
# may share one (tor/circuit/layers.py). The parties of a region share one, 127.80 to 127.179. tor itself makes up
# addresses from 127.192 on (VirtualAddrNetworkIPv4).
FIRST_RELAY_NETWORK = 10
FIRST_PARTY_NETWORK = 80
MAX_REGIONS = 100
# macOS has only 127.0.0.1 (not tried there); elsewhere each tor has its own address. One address means one /16, so
# level long does not work there: its layers find no second guard.
ONE_ADDRESS = sys.platform == "darwin"


@dataclass(frozen=True, slots=True)
class Regions:
    """A table of regions.

    Args:
        names: the regions, in the order of the file.
        relays: the share of the relays, by region.
        one_way_ms: the one-way latency, by pair of regions, in both orders.
    """

    names: tuple[str, ...]
    relays: dict[str, int]
    one_way_ms: dict[tuple[str, str], float]

    def __post_init__(self) -> None:
        if not 0 < len(self.names) <= MAX_REGIONS:
            raise UsageError(f"the table has {len(self.names)} regions, expected 1 to {MAX_REGIONS}")
        if any(share < 0 for share in self.relays.values()) or sum(self.relays.values()) == 0:
            raise UsageError("the shares of relays must be 0 or more, and one of them above 0")
        for pair, latency_ms in self.one_way_ms.items():
            if not 0 <= latency_ms <= MAX_ONE_WAY_MS:
                raise UsageError(f"{pair[0]} to {pair[1]} takes {latency_ms} ms, expected 0 to {MAX_ONE_WAY_MS:.0f}")
        for one in self.names:
            for other in self.names:
                if (one, other) not in self.one_way_ms:
                    raise UsageError(
                        f"no latency from {one} to {other}", hint=f"add it under [one_way_ms.{one}] in {TABLE_NAME}"
                    )

    def one_way_s(self, one: str, other: str) -> float:
        """Return the one-way latency from one region to another, in seconds."""
        return self.one_way_ms[one, other] / 1000

    def relay_regions(self) -> Iterator[str]:
        """Yield a region for each relay, without end. Every prefix follows the shares as closely as possible."""
        total = sum(self.relays.values())
        owed = dict.fromkeys(self.names, 0)
        while True:
            for name in self.names:
                owed[name] += self.relays[name]
            # The region that is owed most comes next. max() returns the first of equals, so the order is fixed.
            chosen = max(self.names, key=owed.__getitem__)
            owed[chosen] -= total
            yield chosen

    def flat(self, latency_ms: float) -> Regions:
        """Return the same regions with the same latency between any two of them."""
        return Regions(self.names, self.relays, dict.fromkeys(self.one_way_ms, latency_ms))

    def party_address(self, region: str, row: int) -> str:
        """Return the loopback address of a party's place, by its row in its region (1 to 254)."""
        return "127.0.0.1" if ONE_ADDRESS else f"127.{FIRST_PARTY_NETWORK + self.names.index(region)}.0.{row}"


def relay_address(number: int) -> str:
    """Return the loopback address of a relay or authority, by its number in its network (0 to 69)."""
    return "127.0.0.1" if ONE_ADDRESS else f"127.{FIRST_RELAY_NETWORK + number}.0.1"


def parse_regions(text: str) -> Regions:
    """Parse a table of regions.

    Raises:
        UsageError: the text is not TOML, or a pair is missing, given twice or out of range.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, or too many digits; nested too deep
        raise UsageError(f"{TABLE_NAME} is not TOML: {error}", hint="fix it, or remove it for a fresh copy") from error
    relays, latencies = table.pop("relays", None), table.pop("one_way_ms", None)
    if table or not isinstance(relays, dict) or not isinstance(latencies, dict):
        raise UsageError(f"{TABLE_NAME} must contain the tables [relays] and [one_way_ms.REGION], and nothing else")
    for name, share in relays.items():
        if type(share) is not int:
            raise UsageError(f"{TABLE_NAME}: the share of relays of {name} is not a whole number")
    one_way_ms: dict[tuple[str, str], float] = {}
    for one, row in latencies.items():
        if not isinstance(row, dict):
            raise UsageError(f"{TABLE_NAME}: one_way_ms.{one} is not a table")
        for other, latency_ms in row.items():
            if one not in relays or other not in relays:
                raise UsageError(f"{TABLE_NAME}: {one} or {other} is not a region of [relays]")
            if type(latency_ms) not in (int, float):
                raise UsageError(f"{TABLE_NAME}: the latency from {one} to {other} is not a number")
            if (one, other) in one_way_ms:
                raise UsageError(f"{TABLE_NAME}: the latency between {one} and {other} is given twice")
            one_way_ms[one, other] = one_way_ms[other, one] = latency_ms
    return Regions(tuple(relays), relays, one_way_ms)


def load_regions(path: Path = SHIPPED_TABLE) -> Regions:
    """Read a table of regions.

    Raises:
        UsageError: the file cannot be read, or is not a table of regions.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path} ({type(error).__name__})") from error
    return parse_regions(text)
