"""Fixtures that all tests may use: one private Tor network for the whole run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from testnet_kit import running_testnet


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
