"""Layer guards are set in a tor, stay set, and are removed again: with a scripted tor, then in a private network."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from onionmpc.errors import OnionMPCError, TorFailed, UnsafeSetting, UsageError
from onionmpc.identity import Onion
from onionmpc.mesh.network import Stream
from onionmpc.tor.adapters.stem import parse_relays
from onionmpc.tor.circuit.layers import DAY_S, LAYER_2, Layers
from onionmpc.tor.circuit.pinning import LayerStore, Pinning, check_pinning, foreign_store, pinned_layers, profile_store
from onionmpc.tor.circuit.status import has_introductions, parse_circuits
from onionmpc.tor.control.connection import Control
from onionmpc.tor.control.login import open_control
from onionmpc.tor.endpoint import parse_endpoint
from onionmpc.tor.network import TorNetwork
from tests.support.fake_control import FakeControl, listening
from tests.support.layer_guards import DESCRIPTOR, NOW_S, entry, everyone, fingerprints
from tests.support.network_contract import connect
from tests.support.tor_loop import kept
from tests.support.tor_parties import DEADLINE_S, Retrying, fresh, party

NAMES = {"VanguardsLiteEnabled", "HSLayer2Nodes", "HSLayer3Nodes"}


class FakeTor(FakeControl):
    """A scripted tor with a consensus and three options, which can be set and reset as in tor.

    Attributes:
        options: those that are not at their default.
        relays: numbers of the relays in its consensus.
        changed: set whenever an option was set.
    """

    def __init__(self, options: dict[str, str] | None = None, relays: int = 40) -> None:
        super().__init__()
        self.options = options or {}
        self.relays = list(range(relays))
        self.changed = asyncio.Event()

    async def serve(self, stream: Stream) -> None:
        self.streams.append(stream)
        with contextlib.suppress(ConnectionError):
            while line := (await stream.reader.readline()).decode().strip():
                self.heard.append(line)
                stream.writer.write(self._answer(line).encode())
        stream.writer.close()

    def _answer(self, line: str) -> str:
        verb, _, rest = line.partition(" ")
        if scripted := [key for key in self.answers if line.startswith(key)]:
            return self.answers[max(scripted, key=len)]
        if verb == "GETCONF":
            values = [f"{name}={self.options[name]}" if name in self.options else name for name in rest.split()]
            return "".join(f"250-{value}\r\n" for value in values[:-1]) + f"250 {values[-1]}\r\n"
        if verb in {"SETCONF", "RESETCONF"}:
            for word in rest.split():
                name, is_set, value = word.partition("=")
                assert name in NAMES
                self.options.pop(name, None)
                if is_set:
                    self.options[name] = value
            self.changed.set()
            return "250 OK\r\n"
        if line == "GETINFO ns/all":
            entries = "".join(entry(number).replace("\n", "\r\n") + "\r\n" for number in self.relays)
            return f"250+ns/all=\r\n{entries}.\r\n250 OK\r\n"
        if line.startswith("GETINFO md/id/") and int(line[-40:], 16) in self.relays:
            text = DESCRIPTOR.format("p reject 1-65535").replace("\n", "\r\n")
            return f"250+{rest}=\r\n{text}.\r\n250 OK\r\n"
        return '552 Unrecognized key "x"\r\n'


class Clock:
    """A wall clock that stops until it is set."""

    def __init__(self) -> None:
        self.s = float(NOW_S)

    def __call__(self) -> float:
        return self.s


@contextlib.asynccontextmanager
async def logged_in(tor: FakeTor) -> AsyncIterator[Control]:
    async with listening(tor) as endpoint, open_control(endpoint) as control:
        yield control


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            await scene()

    asyncio.run(main())


def told(words: str) -> None:
    pytest.fail(words)


@pytest.fixture
def store(tmp_path: Path) -> LayerStore:
    return profile_store(tmp_path)


def is_set(tor: FakeTor, layers: Layers) -> bool:
    return tor.options == {
        "VanguardsLiteEnabled": "1",
        "HSLayer2Nodes": ",".join(fingerprints(layers.layer2)),
        "HSLayer3Nodes": ",".join(fingerprints(layers.layer3)),
    }


def pinned(
    control: Control,
    store: LayerStore,
    *,
    foreign: bool = False,
    seed: int = 0,
    now: Clock | None = None,
    **timings: float,
) -> AbstractAsyncContextManager[Pinning]:
    return pinned_layers(control, store, told, foreign=foreign, now=now or Clock(), random=Random(seed), **timings)


# --- Set and kept ----------------------------------------------------------------------------------------------


def test_both_layers_are_set_in_one_command_and_kept_on_disk(store: LayerStore) -> None:
    async def scene() -> None:
        tor = FakeTor()
        async with logged_in(tor) as control, pinned(control, store) as pinning:
            assert (len(pinning.layers.layer2), len(pinning.layers.layer3)) == (4, 8)
            assert is_set(tor, pinning.layers)
            assert store.read() == pinning.layers
        assert sum(line.startswith("SETCONF") for line in tor.heard) == 1
        # Our own tor ends with us, so nothing must be restored.
        assert is_set(tor, store.read())

    play(scene)
    assert store.path.name == "layers.json"
    assert store.path.stat().st_mode & 0o777 == 0o600


def test_the_next_instance_has_the_guards_of_the_previous_one(store: LayerStore) -> None:
    async def scene() -> None:
        layers = []
        for seed in range(2):
            tor = FakeTor()
            async with logged_in(tor) as control, pinned(control, store, seed=seed) as pinning:
                assert is_set(tor, pinning.layers)
                layers.append(pinning.layers)
        assert layers[0] == layers[1]

    play(scene)


def test_only_the_families_of_drawn_relays_are_queried(store: LayerStore) -> None:
    async def scene() -> None:
        tor = FakeTor()
        async with logged_in(tor) as control:
            async with pinned(control, store):
                pass
            assert sum("md/id" in line for line in tor.heard) == 12
            tor.options.clear()
            tor.heard.clear()
            async with pinned(control, store):
                pass
            assert not any("md/id" in line for line in tor.heard)

    play(scene)


def test_a_guard_that_expires_is_replaced_while_tor_runs(store: LayerStore) -> None:
    clock = Clock()

    async def scene() -> None:
        tor = FakeTor()
        async with logged_in(tor) as control:
            async with pinned(control, store, now=clock) as pinning:
                before = pinning.layers
            tor.options.clear()
            clock.s = before.next_end_s - 0.05
            async with pinned(control, store, now=clock) as pinning:
                assert pinning.layers == before
                tor.changed.clear()
                clock.s = before.next_end_s
                await tor.changed.wait()
                assert is_set(tor, pinning.layers)
                assert store.read() == pinning.layers
                gone = {guard for guard in everyone(before) if guard not in everyone(pinning.layers)}
                assert [guard.until_s for guard in gone] == [before.next_end_s]

    play(scene)


def test_other_changes_are_noticed_within_minutes(store: LayerStore) -> None:
    async def scene() -> None:
        tor = FakeTor()
        async with logged_in(tor) as control, pinned(control, store, look_again_s=0.01) as pinning:
            before = pinning.layers
            # A SIGHUP, and a consensus that lacks a guard.
            tor.options.clear()
            gone = int(before.layer3[0].fingerprint, 16)
            tor.relays = [number for number in tor.relays if number != gone]
            while before.layer3[0] in pinning.layers.layer3 or not is_set(tor, pinning.layers):
                tor.changed.clear()
                await tor.changed.wait()
            assert set(before.layer3) - set(pinning.layers.layer3) == {before.layer3[0]}

    play(scene)


def test_layers_that_were_cleared_are_set_again_by_apply(store: LayerStore) -> None:
    async def scene() -> None:
        tor = FakeTor()
        async with logged_in(tor) as control, pinned(control, store) as pinning:
            before = pinning.layers
            await control.command("RESETCONF HSLayer3Nodes")
            await asyncio.gather(pinning.apply(), pinning.apply())
            assert pinning.layers == before
            assert is_set(tor, before)

    play(scene)


def test_if_no_others_can_be_drawn_the_guards_stay_with_a_warning(store: LayerStore) -> None:
    async def scene() -> None:
        heard: asyncio.Queue[str] = asyncio.Queue()
        tor = FakeTor()
        async with (
            logged_in(tor) as control,
            pinned_layers(
                control, store, heard.put_nowait, foreign=False, now=Clock(), random=Random(0), look_again_s=0.01
            ) as pinning,
        ):
            before = pinning.layers
            tor.relays = list(range(5))
            assert "the layer guards stay as they are: the consensus has 5 relays" in await heard.get()
            assert pinning.layers == before
            assert is_set(tor, before)
            tor.relays = list(range(40, 80))
            while pinning.layers == before:
                tor.changed.clear()
                await tor.changed.wait()

    play(scene)


# --- Refused ---------------------------------------------------------------------------------------------------


def refused(tor: FakeTor, store: LayerStore) -> OnionMPCError:
    async def scene() -> None:
        async with logged_in(tor) as control, pinned(control, store, foreign=True):
            pytest.fail("pinned")

    with pytest.raises((TorFailed, UsageError)) as raised:
        play(scene)
    return raised.value


def test_a_tor_that_pins_nothing_is_refused(store: LayerStore) -> None:
    tor = FakeTor({"VanguardsLiteEnabled": "0"})
    error = refused(tor, store)
    assert isinstance(error, UnsafeSetting)
    assert error.message.startswith("VanguardsLiteEnabled is 0 in this tor")
    assert error.hint == "remove VanguardsLiteEnabled from its torrc"
    assert tor.options == {"VanguardsLiteEnabled": "0"}


@pytest.mark.parametrize("name", ["HSLayer2Nodes", "HSLayer3Nodes"])
def test_layers_of_another_program_are_left_alone(store: LayerStore, name: str) -> None:
    tor = FakeTor({name: "$" + "A" * 40 + ",{de}"})
    error = refused(tor, store)
    assert isinstance(error, UnsafeSetting)
    assert error.message.startswith(f"{name} is already set in this tor")
    assert list(tor.options) == [name]
    assert not any(line.startswith(("SETCONF", "RESETCONF")) for line in tor.heard)


def test_too_few_relays_are_reported_as_such(store: LayerStore) -> None:
    tor = FakeTor(relays=6)
    assert "the consensus has 6 relays that can be layer guards, in 6 networks" in refused(tor, store).message
    assert tor.options == {}
    assert not store.path.exists()


@pytest.mark.parametrize("verb", ["SETCONF", "GETCONF", "GETINFO ns/all"])
def test_a_tor_that_refuses_the_commands_is_reported_in_plain_words(store: LayerStore, verb: str) -> None:
    tor = FakeTor()
    tor.answers[verb] = "510 Command filtered\r\n"
    error = refused(tor, store)
    assert error.message == f"layer guards cannot be pinned: tor refused {verb.split()[0]}: 510 Command filtered"
    assert error.hint == "--circuit-length standard needs no such setting"


def test_an_unreadable_list_of_relays_is_an_error_and_not_a_crash(store: LayerStore) -> None:
    tor = FakeTor()
    tor.answers["GETINFO ns/all"] = "250+ns/all=\r\nnonsense\r\nr\r\ns\r\n.\r\n250 OK\r\n"
    assert "the consensus has 0 relays" in refused(tor, store).message


def test_a_tor_that_pins_nothing_is_refused_at_other_levels_too() -> None:
    async def scene() -> None:
        for options in ({}, {"VanguardsLiteEnabled": "1"}, {"VanguardsLiteEnabled": "auto"}):
            async with logged_in(FakeTor(options)) as control:
                await check_pinning(control)
        filtered = FakeTor()
        filtered.answers["GETCONF"] = "510 Command filtered\r\n"
        async with logged_in(filtered) as control:
            await check_pinning(control)
        async with logged_in(FakeTor({"VanguardsLiteEnabled": "0"})) as control:
            with pytest.raises(UnsafeSetting, match="draws a new relay next to its guard"):
                await check_pinning(control)

    play(scene)


# --- A damaged file --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"{", b'{"version":2}', b"\xff\x00"])
def test_a_damaged_file_is_replaced_with_a_warning(store: LayerStore, content: bytes) -> None:
    store.path.write_bytes(content)
    heard: list[str] = []

    async def scene() -> None:
        tor = FakeTor()
        async with (
            logged_in(tor) as control,
            pinned_layers(control, store, heard.append, foreign=False, now=Clock(), random=Random(0)) as pinning,
        ):
            assert is_set(tor, pinning.layers)
            assert store.read() == pinning.layers

    play(scene)
    assert len(heard) == 1
    assert heard[0].startswith("cannot read the layer guards of the last run, so new ones are drawn: ")


def test_a_file_that_cannot_be_written_is_reported_before_anything_is_set(tmp_path: Path) -> None:
    tor = FakeTor()
    assert "cannot write" in refused(tor, LayerStore(tmp_path / "none" / "layers.json")).message
    assert tor.options == {}


def test_guards_in_a_file_that_live_too_long_are_shortened(store: LayerStore) -> None:
    clock = Clock()
    clock.s += 1000 * DAY_S

    async def scene() -> None:
        tor = FakeTor()
        async with logged_in(tor) as control:
            async with pinned(control, store, now=clock) as pinning:
                before = pinning.layers
            tor.options.clear()
            async with pinned(control, store) as pinning:
                assert fingerprints(everyone(pinning.layers)) == fingerprints(everyone(before))
                assert max(guard.until_s for guard in everyone(store.read())) == NOW_S + LAYER_2.longest_s

    play(scene)


# --- A tor that is not ours ------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [{}, {"VanguardsLiteEnabled": "1"}, {"VanguardsLiteEnabled": "auto"}])
def test_a_foreign_tor_gets_its_options_back(store: LayerStore, before: dict[str, str]) -> None:
    async def scene() -> None:
        tor = FakeTor(dict(before))
        async with logged_in(tor) as control:
            async with pinned(control, store, foreign=True) as pinning:
                assert is_set(tor, pinning.layers)
            assert tor.options == before

    play(scene)


def test_a_foreign_tor_gets_its_options_back_however_we_end(store: LayerStore) -> None:
    async def scene() -> None:
        tor = FakeTor()
        async with logged_in(tor) as control:
            with pytest.raises(ZeroDivisionError):
                async with pinned(control, store, foreign=True):
                    raise ZeroDivisionError
            assert tor.options == {}
            entered = asyncio.Event()

            async def waits() -> None:
                async with pinned(control, store, foreign=True):
                    entered.set()
                    await asyncio.Event().wait()

            task = asyncio.create_task(waits())
            await entered.wait()
            assert tor.options != {}
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()
            assert tor.options == {}

    play(scene)


def test_a_foreign_tor_that_is_gone_or_hangs_does_not_delay_us(store: LayerStore) -> None:
    async def scene() -> None:
        gone = FakeTor()
        async with logged_in(gone) as control, pinned(control, store, foreign=True):
            gone.streams[-1].writer.close()
            await control.closed
        hanging = FakeTor()
        hanging.answers["RESETCONF"] = ""
        async with (
            logged_in(hanging) as control,
            pinned(control, store, foreign=True, undo_timeout_s=0.05),
        ):
            pass
        assert hanging.heard[-1].startswith("RESETCONF")

    play(scene)


def test_layers_that_a_killed_run_left_are_recognised_as_ours(store: LayerStore) -> None:
    async def scene() -> None:
        tor = FakeTor()
        async with logged_in(tor) as control:
            async with pinned(control, store) as pinning:  # not foreign: nothing is restored
                left = pinning.layers
            async with pinned(control, store, foreign=True) as pinning:
                assert pinning.layers == left
            assert tor.options == {"VanguardsLiteEnabled": "1"}

    play(scene)


def test_one_party_at_a_time_sets_the_layers_of_a_tor(tmp_path: Path) -> None:
    one, other = parse_endpoint("unix:/run/tor/control"), parse_endpoint("127.0.0.1:9051")
    base = tmp_path / "layers"
    with foreign_store(base, one) as first, foreign_store(base, other) as second:
        assert first.path != second.path
        with pytest.raises(UsageError, match="another party has changed the tor at"), foreign_store(base, one):
            pass
    with foreign_store(base, one) as again:
        assert again.path == first.path
    assert base.stat().st_mode & 0o777 == 0o700


# --- In a private network --------------------------------------------------------------------------------------


@dataclass
class Ends:
    """Two parties in a private network. One of them listens."""

    dialler: TorNetwork
    listener: TorNetwork
    onion: Onion
    arrived: asyncio.Queue[Stream]

    async def connect(self) -> tuple[Stream, Stream]:
        return await connect(Retrying(self.dialler), self.onion, self.arrived, DEADLINE_S)


@contextlib.asynccontextmanager
async def two_ends(testnet: Path) -> AsyncIterator[Ends]:
    identity, arrived = fresh(), asyncio.Queue[Stream]()
    async with party(testnet, fresh()) as dialler, party(testnet, identity) as listener:
        await listener.listen(arrived.put)
        yield Ends(dialler, listener, identity.onion, arrived)


@pytest.fixture(scope="module")
def shared(testnet_dir: Path, state: Path) -> Iterator[tuple[asyncio.Runner, Ends]]:
    with kept(two_ends(testnet_dir)) as runner_and_ends:
        yield runner_and_ends


def control_of(network: TorNetwork) -> Control:
    assert network.instance is not None
    return network.instance.control


async def until_introduced(ends: Ends) -> None:
    """Wait for the listener's circuits to introduction points, which tor drops whenever other guards are set."""
    while not has_introductions(await control_of(ends.listener).get_info("circuit-status"), ends.onion):
        await asyncio.wait({ends.listener.died}, timeout=0.05)


async def path_of(network: TorNetwork, stream: Stream) -> tuple[str, ...]:
    """Return our relays up to the rendezvous point of a stream."""
    assert stream.path is not None
    circuits = parse_circuits(await control_of(network).get_info("circuit-status"))
    return next(circuit.relays for circuit in reversed(circuits) if circuit.relays[-1:] == (stream.path.rendezvous,))


def goes_through(path: tuple[str, ...], layers: Layers) -> bool:
    return path[1] in fingerprints(layers.layer2) and path[2] in fingerprints(layers.layer3)


async def talk(one: Stream, other: Stream) -> None:
    one.writer.write(b"there")
    other.writer.write(b"back")
    assert await other.reader.readexactly(5) == b"there"
    assert await one.reader.readexactly(4) == b"back"


def play_with(shared: tuple[asyncio.Runner, Ends], scene: Callable[[Ends], Awaitable[None]]) -> None:
    async def main(ends: Ends) -> None:
        async with asyncio.timeout(90):
            await scene(ends)

    runner, ends = shared
    runner.run(main(ends))


@pytest.mark.tor
def test_a_private_network_has_enough_relays_for_both_layers(shared: tuple[asyncio.Runner, Ends]) -> None:
    async def scene(ends: Ends) -> None:
        relays = parse_relays("\n".join(await control_of(ends.dialler).get_lines("ns/all")))
        # The smallest network: 12 relays, and 3 authorities, which have almost no bandwidth and are drawn last.
        assert len({one.network for one in relays.values()}) == len(relays) >= 15
        assert sum(one.bandwidth > 100 for one in relays.values()) >= 12

    play_with(shared, scene)


@pytest.mark.tor
def test_new_circuits_use_the_guards_and_joined_ones_stay(shared: tuple[asyncio.Runner, Ends], tmp_path: Path) -> None:
    async def scene(ends: Ends) -> None:
        before = await ends.connect()
        assert (len(await path_of(ends.dialler, before[0])), len(await path_of(ends.listener, before[0]))) == (3, 4)
        ours_kept, theirs_kept = LayerStore(tmp_path / "dialler"), LayerStore(tmp_path / "listener")
        async with (
            pinned_layers(control_of(ends.dialler), ours_kept, told, foreign=True) as ours,
            pinned_layers(control_of(ends.listener), theirs_kept, told, foreign=False) as theirs,
        ):
            await until_introduced(ends)
            during = await ends.connect()
            dialled, accepted = await path_of(ends.dialler, during[0]), await path_of(ends.listener, during[0])
            assert (len(dialled), len(accepted)) == (4, 5)
            assert goes_through(dialled, ours.layers)
            assert goes_through(accepted, theirs.layers)
            await talk(*before)
            await ours.apply()
            await talk(*during)
        after = await ends.connect()
        assert (len(await path_of(ends.dialler, after[0])), len(await path_of(ends.listener, after[0]))) == (3, 5)
        for streams in (before, during, after):
            await talk(*streams)
            for stream in streams:
                await stream.close()

    play_with(shared, scene)


@pytest.mark.tor
def test_a_tor_that_comes_back_has_the_same_guards(shared: tuple[asyncio.Runner, Ends], tmp_path: Path) -> None:
    async def scene(ends: Ends) -> None:
        store = LayerStore(tmp_path / "layers.json")
        async with pinned_layers(control_of(ends.dialler), store, told, foreign=False) as pinning:
            before = pinning.layers
        restored = asyncio.create_task(ends.dialler.restored())
        os.kill(int(await control_of(ends.dialler).get_info("process/pid")), signal.SIGKILL)
        await restored
        async with pinned_layers(control_of(ends.dialler), store, told, foreign=False) as pinning:
            assert pinning.layers == before
            streams = await ends.connect()
            path = await path_of(ends.dialler, streams[0])
            assert len(path) == 4
            assert goes_through(path, before)
            for stream in streams:
                await stream.close()

    play_with(shared, scene)
