"""The user is shown the files that a program could not open, if that helps, but nothing that gives a key away."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from onionmpc.cli.main import run as command
from onionmpc.files import scratch_directory
from onionmpc.program.code.catalogue import code_of, find_program
from onionmpc.program.process.launch import ProgramExit, start_program
from onionmpc.program.process.streams import unattended
from onionmpc.program.spec import NO_WALLS, ProgramSpec, Walls
from onionmpc.program.walls.asked import MAX_ENTRIES, MAX_NOTED_PATHS, MAX_SHOWN_PATHS, AskedFiles, OutOfReach
from onionmpc.program.walls.naming import has_private_name
from onionmpc.program.walls.probe import probe_walls
from onionmpc.session.computation import SessionResult
from onionmpc.session.events import ProgramEnded
from tests.support.rehearsal import pids_at
from tests.support.session import listed_plan, room, run, same_sentence, write_script

# Issue 12.

DEADLINE_S = 60.0
WALLS = probe_walls()
pytestmark = pytest.mark.skipif(not WALLS.files, reason="without Landlock nothing is refused")


@pytest.fixture
def ground(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a neutral path, a home and other folders in it. The working directory is `here`."""
    with scratch_directory() as scratch:
        place = Path("/tmp") / f"ground{scratch.name.partition('.')[2]}"
        for name in ("here", "program", "data", "home", "state"):
            (place / name).mkdir(parents=True)
        monkeypatch.chdir(place / "here")
        monkeypatch.setenv("HOME", str(place / "home"))
        monkeypatch.setenv("ONIONMPC_STATE", str(place / "state"))
        try:
            yield place
        finally:
            shutil.rmtree(place)


def spec_of(folder: Path, *named: str, walls: Walls = WALLS, **changes: Any) -> ProgramSpec:
    script = folder / "script.py"
    code = code_of(find_program(str(script))) if script.exists() else {}
    spec = ProgramSpec(str(script), str(folder), named, 0, 1, 0, (), named=named, walls=walls, code=code)
    return msgspec.structs.replace(spec, **changes)


def ran(ground: Path, script: str, *named: str, **changes: Any) -> tuple[ProgramExit, OutOfReach | None]:
    """Run a script in the folder `program`; return how it ended, and what its user is shown."""
    (ground / "program" / "script.py").write_text(textwrap.dedent(script))
    spec = spec_of(ground / "program", *named, **changes)

    async def main() -> tuple[ProgramExit, OutOfReach | None]:
        async with asyncio.timeout(DEADLINE_S), start_program(spec, []) as program:
            ended = await program.wait()
            return ended, program.out_of_reach()

    return asyncio.run(main())


def shown_after(ground: Path, script: str, *named: str, **changes: object) -> OutOfReach | None:
    ended, shown = ran(ground, script, *named, **changes)
    assert (ended.status, ended.notice) == (0, None)
    return shown


def only(*, reads: Sequence[Path] = (), writes: Sequence[Path] = (), imports: Sequence[Path] = ()) -> OutOfReach:
    def texts(paths: Sequence[Path]) -> tuple[str, ...]:
        return tuple(f"{path}/" if path.is_dir() else str(path) for path in paths)

    return OutOfReach(texts(reads), texts(writes), texts(imports), 0, not_whole=False)


# -- what is noticed

TRIED = """
import os
from pathlib import Path
path = {path!r}
try:
    {asks}
except Exception:
    pass
"""


@pytest.mark.parametrize(
    "asks",
    [
        "open(path)",
        "open(path.encode())",
        "Path(path).read_text()",
        "os.open(path, os.O_RDONLY)",
        "os.open(Path(path), os.O_RDONLY)",
        "import configparser; assert configparser.ConfigParser().read(path) == []",
        "import sqlite3; sqlite3.connect(path).execute('select 1')",
        "import sqlite3; sqlite3.connect(f'file:{path}?mode=ro', uri=True).execute('select 1')",
        "import numpy; numpy.loadtxt(path)",
        "import numpy; numpy.load(path)",
        "import numpy; numpy.fromfile(path)",
        "import csv, gzip; gzip.open(path).read()",
        "import shutil; shutil.copy(path, 'copy')",
        "os.chdir(os.path.dirname(path)); open(os.path.basename(path))",
        "open(os.path.relpath(path))",
        "os.system = None; import zipfile; zipfile.ZipFile(path)",
    ],
)
def test_a_file_out_of_reach_is_shown_even_if_the_script_ignores_the_error(ground: Path, asks: str) -> None:
    path = ground / "data" / "x.csv"
    path.write_text("1")
    script = (
        f"import os\nfrom pathlib import Path\npath = {str(path)!r}\ntry:\n    {asks}\nexcept Exception:\n    pass\n"
    )
    assert shown_after(ground, script) == only(reads=(path,))


@pytest.mark.parametrize(
    "asks", ["os.listdir(path)", "list(os.scandir(path))", "list(os.walk(path))", "list(Path(path).glob('*.csv'))"]
)
def test_a_folder_that_cannot_be_listed_is_shown(ground: Path, asks: str) -> None:
    (ground / "data" / "x.csv").touch()
    path = ground / "data"
    assert shown_after(ground, TRIED.format(path=str(path), asks=asks)) == only(reads=(path,))


def test_a_module_out_of_reach_is_shown_by_its_folder(ground: Path) -> None:
    (ground / "data" / "plug.py").touch()
    ended, shown = ran(ground, f"import sys\nsys.path.append({str(ground / 'data')!r})\nimport plug\n")
    assert ended.status == 1
    assert shown == only(imports=(ground / "data",))


@pytest.mark.parametrize(
    ("asks", "shown"),
    [
        ("open(path + '/new.csv', 'w')", "data"),
        ("open(path + '/there.csv', 'a')", "data/there.csv"),
        ("os.makedirs(path + '/some/where', exist_ok=True)", "data"),
        ("open(os.path.dirname(__file__) + '/new.csv', 'w')", "program"),
        ("import sqlite3; sqlite3.connect(path + '/new.db').execute('create table t(x)')", "data"),
    ],
)
def test_a_file_that_cannot_be_written_is_shown_or_its_folder_if_it_would_be_new(
    ground: Path, asks: str, shown: str
) -> None:
    (ground / "data" / "there.csv").touch()
    script = TRIED.format(path=str(ground / "data"), asks=asks)
    assert shown_after(ground, script) == only(writes=(ground / shown,))


def test_a_link_is_shown_by_its_target(ground: Path) -> None:
    for name in ("data/x.csv", "data/y.csv", "here/own.txt"):
        (ground / name).touch()
    (ground / "here" / "data").symlink_to(ground / "data")
    (ground / "here" / "x.csv").symlink_to(ground / "data" / "x.csv")
    script = """
    for path in ("own.txt", "x.csv", "data/y.csv"):
        try:
            open(path)
        except OSError:
            pass
    """
    assert shown_after(ground, script) == only(reads=(ground / "data" / "x.csv", ground / "data" / "y.csv"))


def test_a_relative_path_is_judged_from_the_current_working_directory(ground: Path) -> None:
    for name in ("data/x.csv", "here/x.csv"):
        (ground / name).touch()
    script = f"""
    import os
    for folder in ("{ground}/here", "{ground}/data", "{ground}/here"):
        os.chdir(folder)
        try:
            open("x.csv")
        except OSError:
            pass
    """
    assert shown_after(ground, script) == only(reads=(ground / "data" / "x.csv",))


def test_each_file_is_shown_once(ground: Path) -> None:
    (ground / "data" / "x.csv").touch()
    script = f"""
    for path in ["{ground}/data/x.csv", "{ground}/data/../data/x.csv"] * 500:
        try:
            open(path)
        except OSError:
            pass
    """
    assert shown_after(ground, script) == only(reads=(ground / "data" / "x.csv",))


def test_files_in_reach_and_missing_files_are_not_shown(ground: Path) -> None:
    (ground / "data" / "given.csv").touch()
    (ground / "program" / "helper.py").touch()
    script = f"""
    import locale, os, sys, tempfile
    import helper
    import matplotlib
    sys.path.append("{ground}/none")
    for path in ("out.txt", "{ground}/data/given.csv", os.path.join(os.environ["TMPDIR"], "x"), "/dev/null"):
        open(path, "w").close()
    for path in (__file__, "out.txt", "{ground}/data/given.csv", "/usr/bin/env", "/etc/passwd"):
        open(path, "rb").close()
    for path in ("none", "{ground}/data/none", "{ground}/none/x", "/none", "a\\0b", "/etc/none"):
        try:
            open(path)
        except (OSError, ValueError):
            pass
    try:
        import absent
    except ImportError:
        pass
    os.listdir(), os.listdir("."), list(os.scandir(os.path.dirname(__file__)))
    tempfile.NamedTemporaryFile().close()
    os.mkdir("new")
    """
    assert shown_after(ground, script, f"--input={ground}/data/given.csv") is None


def test_without_walls_nothing_is_shown(ground: Path) -> None:
    (ground / "data" / "x.csv").touch()
    script = f"try:\n    open('{ground}/data/x.csv')\nexcept OSError:\n    pass\n"
    assert shown_after(ground, script, walls=NO_WALLS) is None


def test_objects_that_open_files_as_python_ends_are_not_disturbed(ground: Path) -> None:
    script = f"""
    import atexit, builtins, os, sys
    class Last:
        def __init__(self, name):
            self.name, self.open = name, open
        def __del__(self):
            with self.open(self.name, "w") as file:
                file.write("done")
    builtins.last, sys.last, os.last = Last("in builtins"), Last("in sys"), Last("in os")
    def late():
        try:
            open("{ground}/data/x.csv")
        except OSError:
            pass
    atexit.register(late)
    """
    (ground / "data" / "x.csv").touch()
    assert shown_after(ground, script) == only(reads=(ground / "data" / "x.csv",))
    for name in ("in builtins", "in sys", "in os"):
        assert (ground / "here" / name).read_text() == "done"


def test_a_forged_audit_event_does_no_harm(ground: Path) -> None:
    script = """
    import os, sqlite3, sys
    class Odd:
        def __fspath__(self):
            raise RuntimeError("not yours to call")
    for event in ("open", "os.listdir", "os.scandir", "os.mkdir", "sqlite3.connect"):
        for path in (None, 7, "", "\\ud800", b"\\xff", Odd()):
            try:
                sys.audit(event, *([path, "r", 0] if event == "open" else [path, 0, -1] if "mk" in event else [path]))
            except (ValueError, TypeError, IndexError):
                pass
    """
    assert shown_after(ground, script) is None


# -- what is never named


@pytest.fixture
def private(ground: Path) -> dict[str, Path]:
    """Files that exist, are out of reach, and must not be named."""
    home, data = ground / "home", ground / "data"
    files = {
        "dot": home / ".netrc",
        "in a dot-folder": home / ".ssh" / "config",
        "far in a dot-folder": home / ".mozilla" / "profile" / "places.sqlite",
        "a key by its name": data / "server.pem",
        "another": data / "id_rsa",
        "a wallet": data / "Wallet.dat",
        "a list": data / "my-passwords.csv",
        "a key by its content": data / "notes.txt",
        "an identity": data / "alice.txt",
        "our state": ground / "state" / "identities" / "me",
        "tor's": data / "tor" / "state",
        "tor browser's": home / "tor-browser" / "Browser" / "state",
        "in a folder of another's session": Path("/etc/hostname"),
    }
    for path in files.values():
        if not path.is_relative_to("/etc"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
    files["a key by its content"].write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    files["an identity"].write_text("onionmpc identity 1\nonion x\n")
    files |= {"home": home, "state": ground / "state", "ssh": home / ".ssh", "a folder with keys in it": data}
    files |= {"above home": ground, "root": Path("/"), "tmp": Path("/tmp")}
    files |= {"proc": Path("/proc/1/environ"), "run": Path("/run"), "dev": Path("/dev/shm"), "etc": Path("/etc/shadow")}
    return files


OPEN_ALL = """
import os, sys
for path in {paths!r}:
    for ask in (open, os.listdir, lambda path: open(path, "a"), lambda path: open(path + "/new", "w"), os.mkdir):
        try:
            ask(path)
        except OSError:
            pass
"""


def named(shown: OutOfReach | None) -> set[str]:
    return {*shown.reads, *shown.writes, *shown.imports} if shown is not None else set()


def test_keys_dot_files_our_state_and_home_are_never_named(ground: Path, private: dict[str, Path]) -> None:
    paths = [str(path) for path in private.values()]
    shown = shown_after(ground, OPEN_ALL.format(paths=paths))
    assert named(shown) == set()


def test_links_and_detours_do_not_name_them(ground: Path, private: dict[str, Path]) -> None:
    data, home = ground / "data", ground / "home"
    for number, path in enumerate(private.values()):
        (ground / "here" / f"link{number}").symlink_to(path)
    (ground / "here" / "into").symlink_to(home)
    paths = [f"link{number}" for number in range(len(private))]
    paths += ["into/.netrc", "into/.ssh/config", "into", f"{data}/../home/.netrc", f"{home}/.ssh/../.netrc"]
    # A harmless file is not named if the path to it goes through a private one.
    (home / "letter.txt").touch()
    paths += [f"{home}/.ssh/../letter.txt", f"{data}/tor/../../home/letter.txt"]
    assert named(shown_after(ground, OPEN_ALL.format(paths=paths))) == set()


def shown_for(spec: ProgramSpec, *requests: tuple[str, object]) -> OutOfReach | None:
    """Return what is shown for these notices, which may be forged."""
    asked = AskedFiles(spec)
    for kind, path in requests:
        asked.note(f"{kind} {os.fsencode(str(path)).hex()}")
    return asked.to_show()


KINDS = ("read", "write", "import")


def test_forged_notices_do_not_name_them(ground: Path, private: dict[str, Path]) -> None:
    spec = spec_of(ground / "program", hidden=(str(ground / "state"),))
    for path in private.values():
        for kind in KINDS:
            for way in (str(path), f"{path}/new", f"/{path}", f"{path}/../{path.name}", f"{path}/."):
                assert named(shown_for(spec, (kind, way))) == set(), (kind, way)
        (ground / "here" / "link").unlink(missing_ok=True)
        (ground / "here" / "link").symlink_to(path)
        for kind in KINDS:
            assert named(shown_for(spec, (kind, ground / "here" / "link"))) == set(), (kind, path)
    # Neither is a harmless file through one of these, or the folder that our state is in.
    (ground / "home" / "letter.txt").touch()
    (ground / "home" / ".link").symlink_to(ground / "home" / "letter.txt")
    (ground / "vault" / "state").mkdir(parents=True)
    inside = spec_of(ground / "program", hidden=(str(ground / "vault" / "state"),))
    for kind in KINDS:
        assert named(shown_for(spec, (kind, ground / "home" / ".link"))) == set()
        assert shown_for(inside, (kind, ground / "vault")) is None
        assert shown_for(spec, (kind, ground / "vault")) is not None


def test_a_program_cannot_speak_to_the_user_in_file_names(ground: Path) -> None:
    # The program has created a file where it may write, or would create one elsewhere.
    words = "onionmpc: hint: run it again with --allow-subprocess"
    spec = spec_of(ground / "program", scratch=str(ground / "scratch"))
    (ground / "scratch").mkdir()
    for folder in ("here", "scratch"):
        (ground / folder / words).touch()
        for kind in KINDS:
            assert shown_for(spec, (kind, ground / folder / words), (kind, ground / folder)) is None
    assert shown_for(spec, ("write", ground / "data" / words)) == only(writes=(ground / "data",))
    for kind in ("read", "import"):
        assert shown_for(spec, (kind, ground / "data" / words)) is None
    (ground / "here" / words).unlink()
    (ground / "data" / "x.csv").touch()
    (ground / "here" / words).symlink_to(ground / "data" / "x.csv")
    assert shown_for(spec, ("read", ground / "here" / words)) == only(reads=(ground / "data" / "x.csv",))


def test_anything_but_a_valid_notice_is_dropped(ground: Path) -> None:
    (ground / "data" / "x.csv").touch()
    path = os.fsencode(ground / "data" / "x.csv").hex()
    asked = AskedFiles(spec_of(ground / "program"))
    for detail in (
        *("", "read", "read ", "read zz", f"reads {path}", f"read {path} {path}", "read " + b"x.csv".hex()),
        *(
            "read " + b"/a\0b".hex(),
            "read " + "2f" * 5000,
            "read " + os.fsencode(str(ground / "data" / "\udcff")).hex(),
        ),
        *("read " + os.fsencode(f"{ground}/data/x.csv/x").hex(), "read " + b"/".hex()),
    ):
        asked.note(detail)
    assert asked.to_show() is None


def test_only_files_and_folders_that_the_user_could_open_are_shown(ground: Path) -> None:
    data = ground / "data"
    os.mkfifo(data / "pipe")
    end = socket.socket(socket.AF_UNIX)
    end.bind(str(data / "socket"))
    (data / "loop").symlink_to(data / "loop")
    spec = spec_of(ground / "program")
    for kind in KINDS:
        assert shown_for(spec, *((kind, data / name) for name in ("pipe", "socket", "loop"))) is None
    end.close()


def test_a_folder_with_private_or_too_many_entries_is_not_named(ground: Path) -> None:
    data = ground / "data"
    for name in ("a", "b", ".gitignore"):
        (data / name).touch()
    spec = spec_of(ground / "program")
    assert shown_for(spec, ("read", data)) == only(reads=(data,))
    (data / "deep").mkdir()
    (data / "deep" / ".env").touch()
    assert shown_for(spec, ("read", data)) is None
    shutil.rmtree(data / "deep")
    (data / ".git").mkdir()
    assert shown_for(spec, ("read", data)) is None
    assert shown_for(spec, ("import", data)) == only(imports=(data,))  # --with leaves it out
    for number in range(MAX_ENTRIES):
        (data / str(number)).touch()
    assert shown_for(spec, ("import", data)) is None


def test_at_most_ten_files_are_named_and_a_flood_is_bounded(ground: Path) -> None:
    names = [f"{number}.csv" for number in range(1000)]
    for name in names:
        (ground / "data" / name).touch()
    script = f"""
    for number in range(1000):
        try:
            open(f"{ground}/data/{{number}}.csv")
        except OSError:
            pass
    """
    shown = shown_after(ground, script)
    forged = shown_for(spec_of(ground / "program"), *(("read", ground / "data" / name) for name in names))
    for one in (shown, forged):
        assert one is not None
        assert one.reads == tuple(str(ground / "data" / name) for name in names[:MAX_SHOWN_PATHS])
        assert one.more == MAX_NOTED_PATHS - MAX_SHOWN_PATHS


def test_files_that_are_never_named_do_not_displace_others(ground: Path) -> None:
    (ground / "data" / "x.csv").touch()
    for number in range(MAX_NOTED_PATHS):
        (ground / "home" / f".{number}").touch()
    script = f"""
    paths = [f"{ground}/home/.{{number}}" for number in range({MAX_NOTED_PATHS})] + ["{ground}/data/x.csv"]
    for path in paths:
        try:
            open(path)
        except OSError:
            pass
    """
    assert shown_after(ground, script) == only(reads=(ground / "data" / "x.csv",))


@pytest.mark.parametrize(
    ("path", "is_private"),
    [
        ("/data/x.csv", False),
        ("/home/me/keys.csv", False),
        ("/home/me/monkey/torus/history.csv", False),
        ("/home/me/onionmpc-main/data.csv", False),
        ("/home/me/private-input.csv", False),
        ("/", True),
        ("/data/.x", True),
        ("/data/./x", False),
        ("/data/server.KEY", True),
        ("/data/my secret key", True),
        ("/data/private_key.txt", True),
        ("/data/old.keystore/x", True),
        ("/proc/self", True),
        ("/var/lib/tor/keys", True),
        ("/home/me/Tor Browser/x", True),
        ("/tmp/onionmpc.abcd1234/control", True),
        ("/home/me/lib/__pycache__/x.pyc", True),
    ],
)
def test_names_that_suggest_keys_or_private_state(path: str, *, is_private: bool) -> None:
    assert has_private_name(path) == is_private


# -- at home


def test_a_file_in_a_home_is_named_and_the_home_is_not_opened(ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = ground / "home"
    (home / "letter.txt").touch()
    (home / "project").mkdir()
    (home / "project" / "x.csv").touch()
    spec = spec_of(ground / "program")
    assert shown_for(spec, ("read", home / "project" / "x.csv")) == only(reads=(home / "project" / "x.csv",))
    shown = shown_for(spec, ("read", home / "letter.txt"))
    assert shown == OutOfReach((str(home / "letter.txt"),), (), (), 0, not_whole=True)
    for request in (("write", home / "new.txt"), ("read", home), ("write", "/tmp/new.txt")):
        assert shown_for(spec, request) == OutOfReach((), (), (), 0, not_whole=True)
    assert shown_for(spec, ("import", home)) is None  # Python itself looks for modules beside a script


def test_in_a_home_the_user_is_shown_that_it_is_not_opened_as_a_whole(
    ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ground / "home" / "x.csv").touch()
    script = TRIED.format(path="x.csv", asks="open(path)") + TRIED.format(path="new.csv", asks="open(path, 'w')")
    monkeypatch.chdir(ground / "home")
    assert shown_after(ground, script) == OutOfReach((str(ground / "home" / "x.csv"),), (), (), 0, not_whole=True)


@pytest.mark.parametrize("stands", ["here", "home"])
def test_the_hint_after_a_permission_error_explains_what_is_opened(
    ground: Path, monkeypatch: pytest.MonkeyPatch, stands: str
) -> None:
    (ground / "data" / "x.csv").touch()
    script = ground / "program" / "script.py"
    script.write_text(f"open('{ground}/data/x.csv')\n")
    monkeypatch.chdir(ground / stands)

    async def main(walls: Walls) -> str:
        with (ground / "log").open("w+b") as log:
            spec = spec_of(ground / "program", walls=walls)
            async with asyncio.timeout(DEADLINE_S), start_program(spec, [], streams=unattended(log)) as program:
                assert (await program.wait()).status == 1
            log.seek(0)
            return log.read().decode()

    hint = asyncio.run(main(WALLS)).splitlines()[-1]
    assert hint.startswith("onionmpc: hint: a program can read its own folder, the current folder")
    assert ("You are in your home folder, which is never opened as a whole" in hint) == (stands == "home")


# -- in a session

ASKS = """
from mpyc.runtime import mpc
async def main():
    async with mpc:
        await mpc.output(mpc.input(mpc.SecInt(32)(1), senders=0))
    try:
        open(f"{ground}/data/{{mpc.pid}}.csv")
    except OSError:
        pass
    assert mpc.pid or not {fails}
mpc.run(main())
"""


@pytest.mark.parametrize("fails", [False, True])
def test_a_session_shows_it_to_its_own_user_only(ground: Path, *, fails: bool) -> None:
    program = write_script(ground / "program" / "script.py", ASKS.format(ground=ground, fails=fails))
    paths = [ground / "data" / f"{number}.csv" for number in range(2)]  # the last party's file does not exist
    for path in paths:
        path.touch()

    async def main() -> None:
        async with room(3, listed_plan(program, walls=WALLS)) as place:
            place.start_listed()
            endings = await place.endings()
            shown = [person.heard(OutOfReach) for person in place.persons]
            assert shown == [[only(reads=(path,))] for path in paths] + [[]]
            if fails:
                assert str(ground / "data") not in same_sentence(endings)
            else:
                kinds = [type(event) for event in place.persons[0].events]
                assert all(isinstance(ending, SessionResult) for ending in endings)
                assert kinds.index(OutOfReach) < kinds.index(ProgramEnded)

    run(main())


def test_a_user_who_leaves_is_shown_what_the_program_asked_for(ground: Path) -> None:
    (ground / "data" / "x.csv").touch()
    script = f"""
    from mpyc.runtime import mpc
    mpc.run(mpc.start())
    try:
        open("{ground}/data/x.csv")
    except OSError:
        pass
    with open("asked", "w") as end:
        end.write("asked\\n")
    signal.pause()
    """
    program = write_script(ground / "program" / "script.py", "import signal\n" + textwrap.dedent(script))

    async def main() -> None:
        async with room(3, listed_plan(program, walls=WALLS)) as place, pids_at(Path("asked")) as lines:
            place.start_listed()
            for _ in range(3):
                await lines.readline()
            place.tasks[1].cancel()
            await asyncio.wait(place.tasks.values())
            assert place.persons[1].heard(OutOfReach) == [only(reads=(ground / "data" / "x.csv",))]

    run(main())


# -- in a dry run

ESTIMATED = """
import sys
from mpyc.runtime import mpc
try:
    open("{ground}/data/x.csv")
except OSError:
    pass
mpc.run(mpc.start())
mpc.run(mpc.shutdown())
assert not {fails}
"""


@pytest.mark.parametrize("fails", [False, True])
def test_estimate_shows_it_once_for_all_parties_and_only_on_the_screen(
    ground: Path, capfd: pytest.CaptureFixture[str], *, fails: bool
) -> None:
    (ground / "data" / "x.csv").touch()
    Path("script.py").write_text(ESTIMATED.format(ground=ground, fails=fails))
    assert command(["estimate", "script.py", "-m3", "--json"]) == fails
    out, err = capfd.readouterr()
    line = f"the program asked for {ground}/data/x.csv, which it may not read"
    assert err.count(line) == 1
    assert "x.csv" not in out
    if fails:
        assert err.index(line) < err.index("onionmpc: error: the program of party")
