"""Plays all scenes of a module side by side, before its first test, and gives each test the outcome of its scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.kit import Played, Scene, play

SCENES_AT_ONCE = 8


@pytest.fixture(scope="module")
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[Scene, Played]:
    own_network = getattr(request.module, "OWN_NETWORK", False)
    testnet: Path | None = None if own_network else request.getfixturevalue("testnet_dir")
    chosen: list[Any] = [
        item.callspec.params["outcome"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module and hasattr(item, "callspec")
        if "outcome" in item.callspec.params
    ]
    return play(dict.fromkeys(chosen), testnet, tmp_path_factory.mktemp("stage"), SCENES_AT_ONCE)


@pytest.fixture
def outcome(request: pytest.FixtureRequest, played: dict[Scene, Played]) -> Any:
    """What the scene of this test returned."""
    return played[request.param].unwrap()
