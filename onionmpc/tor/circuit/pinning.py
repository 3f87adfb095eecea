"""Pins the layer guards: stores them on disk from run to run, and keeps them set in a running tor.

layers.py draws them. Source: tor's man page, HSLayer2Nodes and HSLayer3Nodes; control-spec.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random, SystemRandom

import msgspec

from onionmpc.errors import TorError, TorFailed, UnsafeSetting, UsageError
from onionmpc.files import lock, private_directory, write_private
from onionmpc.tasks import BackgroundTasks
from onionmpc.tor.adapters.stem import parse_family, parse_relays
from onionmpc.tor.circuit.layers import STANDARD_HINT, Family, Layers, renewed
from onionmpc.tor.control.connection import Control
from onionmpc.tor.control.errors import CommandRefused
from onionmpc.tor.endpoint import Endpoint

LAYERS_NAME = "layers.json"
# With 0, tor pins no relay except its guard, not even those of HSLayer2Nodes. By default the consensus decides (and
# says yes); 1 does not depend on the consensus.
PINNING = "VanguardsLiteEnabled"
LAYER_2_NODES, LAYER_3_NODES = "HSLayer2Nodes", "HSLayer3Nodes"
# The lives of guards are measured by the wall clock, which may jump, and timers are late on a machine that sleeps. So
# we check at least this often. It also limits how long the options stay unset after a SIGHUP has removed them.
LOOK_AGAIN_S = 600.0
# Short, because a tor that does not answer will soon be given up.
UNDO_TIMEOUT_S = 5.0

Warn = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class LayerStore:
    """The file that keeps the layers. It contains fingerprints of relays and times, and nothing about parties."""

    path: Path

    def read(self) -> Layers:
        """Return the layers of the last run, or empty ones.

        Raises:
            ValueError: the file is damaged, or has another version.
        """
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Layers)
        except FileNotFoundError:
            return Layers()
        except OSError as error:
            raise ValueError(error.strerror) from error
        except msgspec.DecodeError as error:
            raise ValueError(str(error)) from error

    def write(self, layers: Layers) -> None:
        """Write layers to the disk.

        Raises:
            UsageError: the disk is full, or the directory cannot be written.
        """
        write_private(self.path, msgspec.json.format(msgspec.json.encode(layers)) + b"\n")


def profile_store(profile: Path) -> LayerStore:
    """Return the store of one of our own tors. The lock of the profile protects it."""
    return LayerStore(profile / LAYERS_NAME)


@contextlib.contextmanager
def foreign_store(base: Path, endpoint: Endpoint) -> Iterator[LayerStore]:
    """Lock and return the store for a tor that runs already.

    If each run drew new layers, they would sooner or later include an adversary's relay, as with guards.

    Args:
        base: the folder of these stores. It is created if it does not exist, with mode 0700.
        endpoint: which tor.
    Raises:
        UsageError: another party on this machine keeps this tor's layers.
    """
    directory = private_directory(private_directory(base) / hashlib.sha256(str(endpoint).encode()).hexdigest()[:16])
    with lock(directory / "lock") as ours:
        if not ours:
            raise UsageError(
                f"another party has changed the tor at {endpoint} to long, and still uses it",
                hint="wait until it ends, or leave --control out: onionmpc then starts its own tor",
            )
        yield LayerStore(directory / LAYERS_NAME)


async def check_pinning(control: Control) -> None:
    """Refuse a tor that pins no relay except its guard: any peer could discover that guard within minutes.

    Raises:
        UnsafeSetting: it does not pin relays.
        TorFailed: tor does not answer.
    """
    # Filters before a control port (Tails, Whonix) refuse the question, but the tors behind them do pin relays.
    with contextlib.suppress(CommandRefused):
        _check_pinning(await _options(control))


def _check_pinning(options: dict[str, str]) -> None:
    if options.get(PINNING) == "0":
        raise UnsafeSetting(
            f"{PINNING} is 0 in this tor, so it draws a new relay next to its guard for each circuit",
            hint=f"remove {PINNING} from its torrc",
        )


async def _options(control: Control) -> dict[str, str]:
    """Return those of our options that are set; defaults are omitted. Source: control-spec, "GETCONF"."""
    lines = (await control.command(f"GETCONF {PINNING} {LAYER_2_NODES} {LAYER_3_NODES}")).splitlines()
    return {name: value for name, is_set, value in (line.partition("=") for line in lines) if is_set and value}


class Pinning:
    """The layer guards of one tor instance; made by `pinned_layers`.

    Attributes:
        layers: the guards that are set.
    """

    def __init__(
        self,
        control: Control,
        store: LayerStore,
        layers: Layers,
        now: Callable[[], float],
        random: Random,
        look_again_s: float,
    ) -> None:
        self.layers = layers
        self._control = control
        self._store = store
        self._now = now
        self._random = random
        self._look_again_s = look_again_s
        self._applying = asyncio.Lock()

    async def apply(self) -> None:
        """Replace the guards whose life is over, and set all guards again.

        Setting equal values changes nothing in tor. When a guard changes, joined circuits stay as they are. tor drops
        unused circuits, and those to our introduction points, which it rebuilds to the same points within a second
        (tried). A peer that dials us within that second waits in vain.

        Raises:
            TorFailed: the consensus has too few relays, or tor refuses.
            UsageError: the layers cannot be written.
        """
        async with self._applying:
            try:
                # In a thread: stem takes a quarter of a second for the public consensus, and the links need the loop.
                relays = await asyncio.to_thread(parse_relays, "\n".join(await self._control.get_lines("ns/all")))
                layers = await renewed(self.layers, relays, int(self._now()), self._random, self._family_of)
                if layers != self.layers:
                    # Before they are used: if we are killed, the next run must use the same ones.
                    self._store.write(layers)
                self.layers = layers
                await self._control.command(f"SETCONF {PINNING}=1 {_settings(layers)}")
            except CommandRefused as error:
                raise _will_not(error) from error

    async def keep(self, warn: Warn) -> None:
        """Apply the layers again when a guard's life ends, and every few minutes in case something else has changed.

        tor reports such changes only in an event with the whole list of relays. Until the next check, it does without a
        relay that left the consensus.
        """
        wait_s = self._wait_s()
        while True:
            await asyncio.sleep(wait_s)
            try:
                await self.apply()
                wait_s = self._wait_s()
            except (TorError, UsageError) as error:
                if self._control.closed.done():
                    return
                # The old guards stay set: they are better than none.
                warn(f"the layer guards stay as they are: {error.message}")
                wait_s = self._look_again_s

    def _wait_s(self) -> float:
        return min(max(0.0, self.layers.next_end_s - self._now()), self._look_again_s)

    async def _family_of(self, fingerprint: str) -> Family | None:
        try:
            return parse_family(await self._control.get_info(f"md/id/{fingerprint}"))
        except CommandRefused:
            return None


@contextlib.asynccontextmanager
async def pinned_layers(
    control: Control,
    store: LayerStore,
    warn: Warn,
    *,
    foreign: bool,
    now: Callable[[], float] = time.time,
    random: Random | None = None,
    look_again_s: float = LOOK_AGAIN_S,
    undo_timeout_s: float = UNDO_TIMEOUT_S,
) -> AsyncIterator[Pinning]:
    """Have one tor instance build every onion circuit through layer guards, and keep them set.

    Args:
        control: of a tor that has a consensus.
        store: keeps the layers from instance to instance.
        warn: called with a message when something fails later.
        foreign: whether the tor continues without us, so that its options must be restored at the end.
        now: returns seconds since 1970.
        random: the system's own, except in tests.
        look_again_s: how often the options are set again, at least.
        undo_timeout_s: for restoring the options.
    Raises:
        UnsafeSetting: tor's settings pin no relay, or another program sets its layers.
        TorFailed: the consensus has too few relays, or tor refuses.
        UsageError: the layers cannot be written.
    """
    try:
        layers = store.read()
    except ValueError as error:
        warn(f"cannot read the layer guards of the last run, so new ones are drawn: {error}")
        layers = Layers()
    try:
        before = await _options(control)
    except CommandRefused as error:
        raise _will_not(error) from error
    _check_pinning(before)
    _check_unclaimed(before, layers)
    pinning = Pinning(control, store, layers, now, random or SystemRandom(), look_again_s)
    async with contextlib.AsyncExitStack() as stack:
        if foreign:
            stack.push_async_callback(_put_back, control, before, undo_timeout_s)
        await pinning.apply()
        await stack.enter_async_context(BackgroundTasks(pinning.keep(warn)))
        yield pinning


def _check_unclaimed(options: dict[str, str], ours: Layers) -> None:
    """Refuse layers that another program has set. Those that a killed run of ours has left are ours."""
    for name, guards in ((LAYER_2_NODES, ours.layer2), (LAYER_3_NODES, ours.layer3)):
        theirs = {word.strip("$").upper() for word in options.get(name, "").split(",") if word}
        if theirs and theirs != {guard.fingerprint for guard in guards}:
            raise UnsafeSetting(
                f"{name} is already set in this tor, by its torrc or by another program, and onionmpc would replace it",
                hint="remove it there, use --circuit-length standard, or leave --control out",
            )


async def _put_back(control: Control, before: dict[str, str], timeout_s: float) -> None:
    """Restore our options. The layers were unset before, or they were ours."""
    pinning = f"{PINNING}={before[PINNING]}" if PINNING in before else PINNING
    with contextlib.suppress(TorFailed, TimeoutError):
        async with asyncio.timeout(timeout_s):
            await control.command(f"RESETCONF {LAYER_2_NODES} {LAYER_3_NODES} {pinning}")


def _settings(layers: Layers) -> str:
    return " ".join(
        f"{name}={','.join(guard.fingerprint for guard in guards)}"
        for name, guards in ((LAYER_2_NODES, layers.layer2), (LAYER_3_NODES, layers.layer3))
    )


def _will_not(error: CommandRefused) -> TorFailed:
    return TorFailed(f"layer guards cannot be pinned: {error.message}", hint=STANDARD_HINT)
