"""Counting our own relays from tor's list of circuits, as tor 0.4.9.11 writes it."""

from __future__ import annotations

import pytest

from onionmpc.mesh.network import OwnPath
from onionmpc.tor.circuit.status import accepted_path, dialled_circuit, has_introductions, parse_circuits

G, L, M, R = (letter * 40 for letter in "ABCD")
ONION = "xbt5sietg333te4c5l3osutfoidrpmtpmhbk6vajjysb4rjnggxq62ad"
OTHER = "r3zw2mwdcqsgjlxdrmidinfapb73aqhfhs5za4iy4wyvry2gn45hl5ad"
ALICE, BOB = "7554d4c44a4f39e45327fe95625b92b6", "619f33f1b0f0087011b5e4649a4ac6b9"
FLAGS = "BUILD_FLAGS=IS_INTERNAL,NEED_CAPACITY,NEED_UPTIME"


def path(*relays: str) -> str:
    return ",".join(f"${relay}~r{number}" for number, relay in enumerate(relays))


def circuit(
    relays: str,
    purpose: str = "HS_CLIENT_REND HS_STATE=HSCR_JOINED",
    *,
    onion: str = ONION,
    created: str = "2026-11-23T01:45:48.233372",
    username: str = "",
    status: str = "BUILT",
) -> str:
    purpose, _, state = purpose.partition(" ")
    isolation = f' SOCKS_USERNAME="{username}" SOCKS_PASSWORD="00ff"' if username else ""
    return f"7 {status} {relays} {FLAGS} PURPOSE={purpose} {state} REND_QUERY={onion} TIME_CREATED={created}{isolation}"


ACCEPTED = "HS_SERVICE_REND HS_STATE=HSSR_JOINED"


def test_a_dialled_circuit_is_found_by_its_user_name() -> None:
    circuits = parse_circuits(
        "\n".join(
            [
                f"1 BUILT ${G}~r0 BUILD_FLAGS=ONEHOP_TUNNEL PURPOSE=GENERAL TIME_CREATED=2026-11-23T01:45:47.228512",
                circuit(path(G, L, R), username=ALICE),
                circuit(path(G, L, M, R), username=BOB),
                # A leftover of the introduction has the same user name.
                circuit(path(G, L, R, M), "CIRCUIT_PADDING", username=ALICE),
                circuit(path(G, L, R, M), "HS_CLIENT_INTRO HS_STATE=HSCI_DONE", username=ALICE),
            ]
        )
    )
    alice, bob = dialled_circuit(circuits, ALICE), dialled_circuit(circuits, BOB)
    assert alice is not None
    assert alice.own_path == OwnPath(3, R)
    assert bob is not None
    assert bob.own_path == OwnPath(4, R)
    assert dialled_circuit(circuits, "") is None


def test_an_accepted_circuit_is_found_by_its_rendezvous_point() -> None:
    circuits = parse_circuits(
        "\n".join(
            [
                circuit(path(G, L, M, R), ACCEPTED),
                circuit(path(G, L, R, M), ACCEPTED),
                circuit(path(G, L, R), ACCEPTED, onion=OTHER),
            ]
        )
    )
    assert accepted_path(circuits, f"{ONION}.onion", R) == OwnPath(4, R)
    assert accepted_path(circuits, f"{ONION}.onion", R.lower()) == OwnPath(4, R)
    assert accepted_path(circuits, f"{ONION}.onion", M) == OwnPath(4, M)
    assert accepted_path(circuits, f"{ONION}.onion", G) is None


def test_of_two_circuits_with_one_rendezvous_point_the_newer_counts() -> None:
    old = circuit(path(G, L, M, R), ACCEPTED, created="2026-11-23T01:45:48.000001")
    new = circuit(path(G, R), ACCEPTED, created="2026-11-23T01:45:48.000002")
    for lines in (f"{old}\n{new}", f"{new}\n{old}"):
        assert accepted_path(parse_circuits(lines), f"{ONION}.onion", R) == OwnPath(2, R)


@pytest.mark.parametrize(
    "line",
    [
        circuit(path(G, L, R), "HS_CLIENT_REND HS_STATE=HSCR_ESTABLISHED_IDLE"),
        circuit(path(G, L, R), status="EXTENDED"),
        circuit("", status="LAUNCHED"),
        "nonsense",
        "8 BUILT $short~r0 PURPOSE=HS_CLIENT_REND HS_STATE=HSCR_JOINED",
        "",
    ],
)
def test_a_line_that_is_not_joined_or_not_understood_is_not_a_circuit(line: str) -> None:
    assert parse_circuits(line) == []


def test_a_service_can_be_reached_while_it_has_a_circuit_to_an_introduction_point() -> None:
    there = circuit(path(G, L, M, R), "HS_SERVICE_INTRO HS_STATE=HSSI_ESTABLISHED")
    coming = circuit(path(G, L, M, R), "HS_SERVICE_INTRO HS_STATE=HSSI_CONNECTING", status="EXTENDED")
    theirs = circuit(path(G, L, M, R), "HS_SERVICE_INTRO HS_STATE=HSSI_ESTABLISHED", onion=OTHER)
    assert has_introductions(f"{coming}\n{there}\n", f"{ONION}.onion")
    assert not has_introductions(f"{coming}\n{theirs}\n{circuit(path(G, L, R), ACCEPTED)}\n", f"{ONION}.onion")
    assert not has_introductions("", f"{ONION}.onion")
