"""Which installed distributions a program imports."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from pathlib import Path

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


def test_what_is_installed_is_found_as_python_finds_it() -> None:
    """Python's own function does the same for all modules at once, and takes long."""
    providers = importlib.metadata.packages_distributions()
    modules = set(filter(importlib.util.find_spec, filter(str.isidentifier, providers))) - sys.stdlib_module_names
    named_otherwise = [name for name in modules if canonical(name) not in map(canonical, providers[name])]
    assert len(named_otherwise) > 5
    for some in (*([module] for module in sorted(named_otherwise)[::5]), modules):
        expected = {canonical(name) for module in some for name in providers[module]}
        assert {canonical(name) for name in distributions_of(some, at_most=10**6)} == expected


@pytest.mark.parametrize(
    ("name", "listed", "module"),
    [
        ("top_level.txt", "_second\nfirst\n", "first"),
        ("RECORD", "first.py,sha256=x,1\n", "first"),
        ("RECORD", "first.cpython-311-x86_64-linux-gnu.so,sha256=x,1\n", "first"),
        ("RECORD", '"first/a,b.py",sha256=x,1\n', "first"),
        ("RECORD", "first/part/inner.py,,\n", "first"),
        ("RECORD", "first/data.txt,,\nfirst_other/x.py,,\nfirst-1.dist-info/RECORD,,\n", ""),
    ],
)
def test_a_distribution_provides_what_it_declares_or_contains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, listed: str, module: str
) -> None:
    folder = tmp_path / "one_that_is_made_up-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: one-that-is-made-up\nVersion: 1.0\n")
    (folder / name).write_text(listed)
    monkeypatch.syspath_prepend(tmp_path)
    assert distributions_of(["first"]) == ({"one-that-is-made-up": "1.0"} if module else {})


def canonical(name: str) -> str:
    return name.lower().replace("_", "-")


def test_no_more_distributions_are_listed_than_a_peer_accepts() -> None:
    assert list(distributions_of(["numpy", "mpyc"], at_most=1)) == ["mpyc"]


@pytest.mark.parametrize("version", ["1.0 (é)\x1b" + "9" * 99, ""])
def test_a_version_that_peers_would_refuse_is_changed_until_they_accept_it(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: version)
    msgspec.convert({"distributions": distributions_of(["numpy"])}, type=PartyTerms)
