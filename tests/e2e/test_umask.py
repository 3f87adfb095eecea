"""Under umask 000, others can write nothing that a network, an identity, a session or a demo makes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import pytest

from tests.e2e.kit import ADD_WHEN_TOLD

pytestmark = pytest.mark.tor

PARTIES = 3
DEADLINE_S = 120.0
ODD = 'n #"\\ é'  # what a torrc would want quoted


# Issue 12.
def test_others_can_write_nothing_that_is_made_under_umask_000(tmp_path: Path) -> None:
    stage = tmp_path / ODD
    here, made = stage / "here", stage / "made"
    here.mkdir(parents=True)
    made.mkdir()
    (here / "adds.py").write_text(textwrap.dedent(ADD_WHEN_TOLD))
    with tempfile.TemporaryDirectory(prefix="um", dir="/tmp") as runtime:
        places = {"TMPDIR": made, "XDG_RUNTIME_DIR": runtime, "ONIONMPC_STATE": made / "not" / "yet" / "state"}
        environment = os.environ | {name: str(place) for name, place in places.items()}

        def onionmpc(*words: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-P", "-m", "onionmpc.cli", *words]
            return subprocess.Popen(
                command,
                cwd=here,
                env=environment,
                umask=0,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )

        with onionmpc("id", "new", "me") as done:
            assert done.wait(DEADLINE_S) == 0
        kept = ("--receipt", "receipt.json", "--json", "report.json")
        with onionmpc("demo", "adds.py", "--latency", "none", *kept, "--", "1") as demo:
            try:
                assert demo.stdout is not None
                shown = list(until_all_compute(demo.stdout))
                while_it_runs = [*writable([made, Path(runtime)]), *writable(Path("/tmp").glob("onionmpc.*"))]
                made_then = {path.name for path in [*made.rglob("*"), *Path(runtime).rglob("*")]}
                (here / "go").touch()
                shown += demo.stdout.readlines()
                assert demo.wait(DEADLINE_S) == 0, "".join(shown)
            finally:
                demo.terminate()
        (here / "go").unlink()
        assert while_it_runs == []
        assert {"me.key", "invite-1.txt", "notices.log", "owner.lock", "control", "socks", "party"} <= made_then
        assert writable([here, made]) == []
        assert {"receipt.json", "report.json"} <= {path.name.replace("-0", "") for path in here.iterdir()}


def until_all_compute(lines: Iterable[str]) -> Iterator[str]:
    waiting = PARTIES
    for line in lines:
        yield line
        waiting -= "agreed; its program runs" in line
        if not waiting:
            return


def writable(folders: Iterable[Path]) -> list[str]:
    """Return what others can write of these folders and their contents, some of which may just be removed."""
    found = []
    for folder in folders:
        for path in [folder, *(Path(base, name) for base, *names in os.walk(folder) for name in chain(*names))]:
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:  # a temporary file of tor's
                continue
            if stat.S_IMODE(mode) & 0o022 and not stat.S_ISLNK(mode):
                found.append(f"{path} {stat.filemode(mode)}")
    return found
