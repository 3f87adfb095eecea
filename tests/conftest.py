"""Fixtures that all tests may use: one private Tor network for the whole run, a state directory for each module."""

from __future__ import annotations

import os
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.testnet import running_testnet

# How long an example takes is up to the machine, and to what else runs on it.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def testnet_dir() -> Iterator[Path]:
    """The directory of a private Tor network: that of $ONIONMPC_TEST_TESTNET, or one for this run."""
    if configured := os.environ.get("ONIONMPC_TEST_TESTNET"):
        yield Path(configured)
        return
    with tempfile.TemporaryDirectory(prefix="onionmpc-test-") as name:
        directory = Path(name) / "net"
        with running_testnet(directory):
            yield directory


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A state directory that all parties of a module share; not made yet."""
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("state") / "onionmpc"
        patch.setenv("ONIONMPC_STATE", str(directory))
        yield directory


@pytest.fixture(autouse=True)
def _same_event_loops() -> Iterator[None]:
    """A test that imports MPyC gives all later ones the loops of uvloop. It has to do so in a process of its own."""
    yield
    assert "mpyc" not in sys.modules


@pytest.fixture
def enough_descriptors() -> Iterator[None]:
    """Let this process, which plays strangers by the thousand, have as many as they need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
