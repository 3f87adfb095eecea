"""Which relays become layer guards, and for how long: the rules alone, without a tor."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterable
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.errors import TorFailed
from onionmpc.tor.adapters.stem import parse_family, parse_relays
from onionmpc.tor.circuit.layers import (
    DAY_S,
    HOUR_S,
    LAYER_2,
    LAYER_3,
    Family,
    GuardCandidate,
    LayerRule,
    Layers,
    life_s,
    renewed,
)
from tests.support.layer_guards import DESCRIPTOR, NOW_S, entry, everyone, fingerprints


def relay(number: int, *, network: str = "", bandwidth: int = 1000) -> GuardCandidate:
    return GuardCandidate(f"{number:040X}", f"relay{number}", network or f"{number // 256}.{number % 256}", bandwidth)


def consensus(relays: Iterable[GuardCandidate]) -> dict[str, GuardCandidate]:
    return {one.fingerprint: one for one in relays}


MANY = consensus(relay(number) for number in range(40))


def renew(
    layers: Layers,
    relays: dict[str, GuardCandidate],
    *,
    now_s: int = NOW_S,
    seed: int = 0,
    families: dict[str, Family | None] | None = None,
) -> Layers:
    async def family_of(fingerprint: str) -> Family | None:
        return (families or {}).get(fingerprint, Family())

    return asyncio.run(renewed(layers, relays, now_s, Random(seed), family_of))


# --- Drawing ---------------------------------------------------------------------------------------------------

numbers = st.integers(0, 60)
relays = st.lists(
    st.builds(
        relay,
        numbers,
        network=st.sampled_from([f"10.{number}" for number in range(40)]),
        bandwidth=st.one_of(st.just(0), st.integers(0, 2**32 - 1)),
    ),
    min_size=10,
    max_size=60,
).map(consensus)


@given(relays, st.integers(), st.lists(st.lists(numbers, min_size=2, max_size=10), max_size=5))
def test_layers_follow_the_rules_whatever_is_drawn(
    relays: dict[str, GuardCandidate], seed: int, groups: list[list[int]]
) -> None:
    families = {
        f"{number:040X}": Family(frozenset(f"{other:040X}" for other in group)) for group in groups for number in group
    }
    try:
        layers = renew(Layers(), relays, seed=seed, families=dict(families))
    except TorFailed:
        return
    for rule, guards in ((LAYER_2, layers.layer2), (LAYER_3, layers.layer3)):
        chosen = fingerprints(guards)
        assert len(set(chosen)) == rule.guards
        assert len({relays[one].network for one in chosen}) == rule.guards
        for one in chosen:
            for other in chosen:
                named = families.get(one, Family()).names(relays[other])
                assert one == other or not (named and families.get(other, Family()).names(relays[one]))
        assert all(rule.shortest_s <= guard.until_s - NOW_S <= rule.longest_s for guard in guards)
    assert renew(layers, relays, seed=seed + 1, families=dict(families)) == layers


def test_relays_are_drawn_by_bandwidth() -> None:
    fast, slow = 30_000, 10_000
    relays = consensus(relay(number, bandwidth=fast if number % 2 else slow) for number in range(1000))
    seen = Counter(
        relays[guard.fingerprint].bandwidth
        for seed in range(300)
        for guard in everyone(renew(Layers(), relays, seed=seed))
    )
    assert sum(seen.values()) == 300 * 12
    # The expected share is three in four, with a standard deviation of 0.0072.
    assert abs(seen[fast] / sum(seen.values()) - 0.75) < 0.03


def test_the_layers_are_drawn_independently() -> None:
    # If 4 and 8 of 40 are drawn independently, 0.8 coincide on average.
    shared = [
        len(set(fingerprints(layers.layer2)) & set(fingerprints(layers.layer3)))
        for layers in (renew(Layers(), MANY, seed=seed) for seed in range(500))
    ]
    assert abs(sum(shared) / 500 - 0.8) < 0.15


def test_if_no_relay_has_bandwidth_all_are_equally_likely() -> None:
    relays = consensus(relay(number, bandwidth=0) for number in range(12))
    seen = Counter(guard.fingerprint for seed in range(300) for guard in renew(Layers(), relays, seed=seed).layer2)
    assert set(seen) == set(relays)
    assert max(seen.values()) < 2 * min(seen.values())


def test_relays_without_bandwidth_come_last() -> None:
    relays = consensus(relay(number, bandwidth=1 if number < 6 else 0) for number in range(40))
    layers = renew(Layers(), relays)
    assert set(fingerprints(layers.layer2)) < set(list(relays)[:6]) < set(fingerprints(layers.layer3))


def test_a_life_is_the_longer_of_two_draws() -> None:
    lives = [life_s(LayerRule(2, 4, 0, 300, draws=2), Random(seed)) for seed in range(3000)]
    assert abs(sum(lives) / 3000 - 200) < 5
    assert (LAYER_2.shortest_s, LAYER_2.longest_s, LAYER_2.draws) == (30 * DAY_S, 60 * DAY_S, 1)
    assert (LAYER_3.shortest_s, LAYER_3.longest_s, LAYER_3.draws) == (HOUR_S, 48 * HOUR_S, 2)


def related(pairs: Iterable[tuple[int, int]]) -> dict[str, Family | None]:
    """Let the first of each pair name the second."""
    found: dict[str, Family | None] = {}
    for one, other in pairs:
        before = found.get(f"{one:040X}") or Family()
        found[f"{one:040X}"] = Family(before.members | {f"{other:040X}"})
    return found


EIGHT = consensus(relay(number) for number in range(8))


def test_one_relay_naming_the_other_does_not_make_a_family() -> None:
    # Otherwise anyone could keep relays out of others' layers.
    claims = related((one, other) for one in range(8) for other in range(one))
    assert set(fingerprints(renew(Layers(), EIGHT, families=claims).layer3)) == set(EIGHT)


def test_relays_that_name_each_other_are_one_family() -> None:
    with pytest.raises(
        TorFailed,
        match=r"has 8 relays that can be layer guards, in 7 networks \(/16\) and families; layer 3 needs 8$",
    ) as raised:
        renew(Layers(), EIGHT, families=related([(1, 2), (2, 1)]))
    assert raised.value.hint == "--circuit-length standard needs no such setting"


def test_relays_may_name_each_other_by_nickname() -> None:
    families = {
        f"{1:040X}": Family(frozenset({"relay2"})),
        f"{2:040X}": Family(frozenset({"relay1"})),
    }
    with pytest.raises(TorFailed, match="in 7 networks"):
        renew(Layers(), EIGHT, families=dict(families))


def test_relays_that_proved_a_family_key_need_no_names() -> None:
    families = {f"{number:040X}": Family(ids=frozenset({"ed25519:shared", f"ed25519:{number}"})) for number in (1, 2)}
    with pytest.raises(TorFailed, match="in 7 networks"):
        renew(Layers(), EIGHT, families=dict(families))


def test_a_network_has_at_most_one_guard() -> None:
    relays = consensus(relay(number, network=f"10.{number % 3}") for number in range(9))
    with pytest.raises(TorFailed, match=r"has 9 relays that can be layer guards, in 3 networks .* layer 2 needs 4"):
        renew(Layers(), relays)


def test_a_relay_without_a_descriptor_is_not_drawn() -> None:
    relays = consensus(relay(number) for number in range(9))
    unknown: dict[str, Family | None] = {f"{3:040X}": None}
    for seed in range(50):
        layers = renew(Layers(), relays, seed=seed, families=unknown)
        assert f"{3:040X}" not in fingerprints(everyone(layers))


# --- Renewing --------------------------------------------------------------------------------------------------


@given(st.integers(0, 12 * DAY_S), st.integers())
def test_guards_that_may_stay_stay_and_the_others_are_replaced(later_s: int, seed: int) -> None:
    before = renew(Layers(), MANY, seed=seed)
    after = renew(before, MANY, now_s=NOW_S + later_s, seed=seed + 1)
    for old, new in ((before.layer2, after.layer2), (before.layer3, after.layer3)):
        alive = [guard for guard in old if guard.until_s > NOW_S + later_s]
        assert list(new[: len(alive)]) == alive
        assert len(new) == len(old)
        assert all(guard.until_s > NOW_S + later_s for guard in new)


def test_a_guard_that_no_longer_qualifies_is_replaced_for_good() -> None:
    before = renew(Layers(), MANY)
    gone = before.layer2[1].fingerprint
    after = renew(before, {key: one for key, one in MANY.items() if key != gone}, seed=1)
    assert gone not in fingerprints(everyone(after))
    assert set(before.layer2) - set(after.layer2) == {before.layer2[1]}
    assert renew(after, MANY, seed=2) == after


def test_a_new_guard_is_unrelated_to_those_that_stay() -> None:
    relays = consensus(relay(number) for number in range(9))
    before = renew(Layers(), relays)
    outside = next(key for key in relays if key not in fingerprints(before.layer3))
    gone, stays = before.layer3[0].fingerprint, before.layer3[1].fingerprint
    left = {key: one for key, one in relays.items() if key != gone}
    kin = related([(int(outside, 16), int(stays, 16)), (int(stays, 16), int(outside, 16))])
    assert fingerprints(renew(before, left, seed=1).layer3)[-1] == outside
    with pytest.raises(TorFailed, match="has 8 relays that can be layer guards, in 7 networks"):
        renew(before, left, seed=1, families=kin)


def test_a_clock_that_was_ahead_does_not_make_a_guard_immortal() -> None:
    before = renew(Layers(), MANY, now_s=NOW_S + 10 * 365 * DAY_S)
    after = renew(before, MANY)
    assert fingerprints(after.layer2) == fingerprints(before.layer2)
    assert {guard.until_s for guard in after.layer2} == {NOW_S + LAYER_2.longest_s}
    assert {guard.until_s for guard in after.layer3} == {NOW_S + 48 * HOUR_S}


def test_next_end_is_when_the_first_guard_expires() -> None:
    layers = renew(Layers(), MANY)
    assert layers.next_end_s == min(guard.until_s for guard in everyone(layers))
    assert Layers().next_end_s == 0


# --- As a file -------------------------------------------------------------------------------------------------


def test_layers_survive_writing_and_reading() -> None:
    layers = renew(Layers(), MANY)
    written = msgspec.json.encode(layers)
    assert msgspec.json.decode(written, type=Layers) == layers
    assert msgspec.json.encode(msgspec.json.decode(written, type=Layers)) == written


GUARD = f'{{"fingerprint":"{"A" * 40}","until_s":1}}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"version":2}',
        '{"other":1}',
        f'{{"layer2":[{GUARD},{GUARD}]}}',
        f'{{"layer2":[{GUARD.replace("A" * 40, "a" * 40)}]}}',
        f'{{"layer2":[{GUARD.replace("A" * 40, "A,B HSLayer3Nodes=")}]}}',
        f'{{"layer2":[{GUARD.replace("1}", "1.5}")}]}}',
        '{"layer2":[' + ",".join(GUARD.replace("A" * 40, f"{number:040X}") for number in range(5)) + "]}",
    ],
)
def test_a_file_that_is_not_ours_is_refused(text: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(text, type=Layers)


# --- What tor reports ------------------------------------------------------------------------------------------


def test_candidates_are_fast_stable_running_and_valid() -> None:
    flags = ["Fast", "Running", "Stable", "Valid"]
    lines = [entry(0, " ".join(["Exit", *flags, "V2Dir"]))]
    lines += [entry(number, " ".join(set(flags) - {left_out})) for number, left_out in enumerate(flags, start=1)]
    assert parse_relays("\n".join(lines)) == consensus([GuardCandidate("0" * 40, "relay0", "10.0", 7)])


@pytest.mark.parametrize(
    ("weight", "bandwidth"),
    [
        ("w Bandwidth=0", 0),
        ("w Bandwidth=20 Unmeasured=1", 20),
        ("w Bandwidth=x", 0),
        ("w Bandwidth=²", 0),
        ("w", 0),
        ("", 0),
        (f"w Bandwidth={10**400}", 2**32 - 1),
        (f"w Bandwidth={'9' * 5000}", 0),
        ("w Bandwidth=-3", 0),
        ("m whatever\nw Bandwidth=3\nlater-line 5", 3),
    ],
)
def test_a_strange_weight_becomes_a_usable_number(weight: str, bandwidth: int) -> None:
    assert [one.bandwidth for one in parse_relays(entry(1, weight=weight)).values()] == [bandwidth]


@pytest.mark.parametrize(
    "odd",
    [
        "r",
        "r short",
        entry(3, address="fe80::1"),
        entry(3, address="1.2.3"),
        entry(3).replace("AAM ", "A=M "),
        "s Fast Running Stable Valid",
        "\n\n",
        "250 OK",
        "r ²  ² ² ² ² ² ²",
    ],
)
def test_a_relay_that_cannot_be_read_does_not_hide_the_others(odd: str) -> None:
    text = f"{entry(1)}\n{odd}\n{entry(2)}"
    assert {f"{1:040X}", f"{2:040X}"} == set(parse_relays(text))


@given(st.text(alphabet=st.characters(codec="utf-8")), st.integers(0, 200), st.integers(0, 200))
def test_any_text_is_read_or_an_error(text: str, start: int, length: int) -> None:
    lines = "\n".join(entry(number) for number in range(2))
    for broken in (text, lines[:start] + text + lines[start + length :]):
        for read in (parse_relays, parse_family):
            with contextlib.suppress(TorFailed):
                read(broken)


def test_a_family_is_read_from_a_microdescriptor() -> None:
    one, two = "A" * 40, "B" * 40
    family = parse_family(DESCRIPTOR.format(f"family ${one} ${two.lower()}=Name Nick ${one}~other"))
    assert family == Family(frozenset({one, two, "nick"}))
    assert family.names(GuardCandidate(one, "", "", 0))
    assert family.names(GuardCandidate("C" * 40, "NICK", "", 0))
    assert not family.names(GuardCandidate("C" * 40, "other", "", 0))


def test_family_keys_are_read_though_stem_does_not_know_them() -> None:
    family = parse_family(DESCRIPTOR.format("family-ids ed25519:abc ed25519:def"))
    assert family == Family(ids=frozenset({"ed25519:abc", "ed25519:def"}))


def test_a_relay_without_family_has_an_empty_one() -> None:
    assert parse_family(DESCRIPTOR.format("p reject 1-65535")) == Family()
    assert parse_family(DESCRIPTOR.format("family")) == Family()


def test_a_huge_range_of_protocols_costs_nothing() -> None:
    assert parse_family(DESCRIPTOR.format("pr Link=1-99999999999999\nfamily-ids ed25519:a")) == Family(
        ids=frozenset({"ed25519:a"})
    )
