"""Which installed distributions a program imports."""

from __future__ import annotations

import importlib.metadata

import msgspec
import pytest

from onionmpc.program.code.installed import distributions_of
from onionmpc.session.agreement import PartyTerms


def test_a_distribution_is_found_by_a_module_of_another_name() -> None:
    assert distributions_of(["yaml", "numpy", "os", "nowhere"]) == {
        "PyYAML": importlib.metadata.version("PyYAML"),
        "numpy": importlib.metadata.version("numpy"),
    }
    assert distributions_of(["os", "sys"]) == {}


def test_no_more_distributions_are_listed_than_a_peer_accepts() -> None:
    assert list(distributions_of(["numpy", "mpyc"], at_most=1)) == ["mpyc"]


@pytest.mark.parametrize("version", ["1.0 (é)\x1b" + "9" * 99, ""])
def test_a_version_that_peers_would_refuse_is_changed_until_they_accept_it(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: version)
    msgspec.convert({"distributions": distributions_of(["numpy"])}, type=PartyTerms)
