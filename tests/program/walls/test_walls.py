"""A program reaches nothing past its walls. If the machine lacks a wall, the description of the walls shows it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest

from onionmpc.errors import OnionMPCError
from onionmpc.files import private_directory, socket_directory
from onionmpc.program.process.launch import ProgramExit, start_program
from onionmpc.program.rehearsal import rehearse
from onionmpc.program.spec import NO_WALLS, ProgramSpec, Walls
from onionmpc.program.walls import landlock, seccomp
from onionmpc.program.walls.build import QUOTA_FILES
from onionmpc.program.walls.reachable import readable, writable
from onionmpc.session.computation import SessionResult
from tests.support import tries
from tests.support.rehearsal import CHAIN, write_spec
from tests.support.session import answers, give_answer_files, listed_plan, room, run, write_script
from tests.support.tries import TRIES
from tests.support.walls import DEADLINE_S, machine_walls, run_program, without

ALL_WALLS = Walls(network=True, sockets=True, secrets=True, files=True, frozen=True)
NOBODY = 65534
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has walls")

# What a program can reach if only one wall is missing.
WITHOUT = {
    "network": {"host_name"},
    "sockets": {"c_tcp", "c_udp", "c_netlink", "c_control_socket", "c_datagram_of_a_pair", "c_io_uring", "c_keyring"}
    | {"key_file_changed", "c_typed_into_terminal", "c_new_namespace", "limits_of_supervisor"}
    | {"signal_to_group", "signal_to_supervisor"},
    "secrets": {"key_file", "key_file_by_link", "key_names", "key_file_changed", "cookie"},
    "files": {"command_line_of_others", "name_of_machine", "writing_in_python", "c_fork_and_exec"},
}
# These need rights that no user has, or a particular machine, to work at all.
NOT_FOR_EVERYBODY = {"raw_socket", "memory_of_supervisor", "environment_of_supervisor", "descriptors_of_supervisor"} | {
    *("c_memory_of_supervisor", "c_traced_supervisor", "writing_in_python", "c_io_uring", "c_typed_into_terminal"),
    *("key_file_by_link", "name_of_machine", "c_new_namespace", "host_name"),
}


def may_reach(walls: Walls) -> set[str]:
    """Return the most that can be reached behind these walls. The guard in Python is always there."""
    return {name for wall, names in WITHOUT.items() if not getattr(walls, wall) for name in names}


def test_each_try_that_may_succeed_or_fail_somewhere_is_made() -> None:
    assert set(TRIES) >= NOT_FOR_EVERYBODY.union(*WITHOUT.values())


@dataclass(frozen=True)
class Stage:
    """A program under test. Its working directory `here` contains things that it must not reach."""

    here: Path
    script: Path
    targets: dict[str, object]

    def spec(self, *named: str, **changes: object) -> ProgramSpec:
        output = self.here / "out" / "reached.json"
        spec = ProgramSpec(
            script=str(self.script),
            folder=str(self.script.parent),
            arguments=(json.dumps(self.targets), str(output), *named),
            number=0,
            parties=1,
            threshold=0,
            mpyc_options=(),
            named=(str(output), str(self.targets["input"]), *named),
            code={str(self.script): self.script.read_bytes()},
        )
        return msgspec.structs.replace(spec, **changes)

    def reached(self) -> set[str]:
        report = json.loads((self.here / "out" / "reached.json").read_text())
        assert set(report["tried"]) == set(TRIES)
        assert report["lacks"] == []
        return set(report["reached"])


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    here, folder, state = tmp_path / "here", tmp_path / "program", tmp_path / "here" / "state"
    for path in (here / "out", folder, state / "identities", tmp_path / "elsewhere"):
        path.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("ONIONMPC_STATE", str(state))
    state.chmod(0o700)
    script = shutil.copy(tries.__file__, folder / "script.py")
    for name in ("identities/me.key", "identities/victim.key", "cookie"):
        (state / name).write_text("secret")
    (tmp_path / "elsewhere" / "input.txt").write_text("42")
    with contextlib.ExitStack() as stack:
        sockets = stack.enter_context(socket_directory())
        control, datagrams, tcp, udp = (
            stack.enter_context(socket.socket(family, kind))
            for family in (socket.AF_UNIX, socket.AF_INET)
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
        )
        control.bind(str(sockets / "control"))
        datagrams.bind(str(sockets / "datagrams"))
        for end in (tcp, udp):
            end.bind(("127.0.0.1", 0))
        for end in (control, tcp):
            end.listen()
        targets = {
            "tcp": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
            "control": str(sockets / "control"),
            "datagrams": str(sockets / "datagrams"),
            "key": str(state / "identities" / "me.key"),
            "victim": str(state / "identities" / "victim.key"),
            "cookie": str(state / "cookie"),
            "input": str(tmp_path / "elsewhere" / "input.txt"),
            "output": str(here / "out" / "result.txt"),
        }
        yield Stage(here, Path(script), targets)


# -- what is reached


@ON_LINUX
def test_without_walls_these_attempts_do_succeed(stage: Stage) -> None:
    subprocess.run([sys.executable, stage.script, *stage.spec().arguments], check=True, timeout=DEADLINE_S)
    assert set(TRIES) - stage.reached() <= NOT_FOR_EVERYBODY


def test_a_program_reaches_nothing_past_the_walls_that_are_shown(stage: Stage) -> None:
    walls = machine_walls()
    ended = run_program(stage.spec(walls=walls))
    assert (ended.status, ended.notice) == (0, None)
    assert stage.reached() <= may_reach(walls)
    assert ("OPEN" in walls.describe()) == (not (walls.sockets and walls.files))


@ON_LINUX
@pytest.mark.parametrize(
    ("functions", "missing"),
    [
        (["namespaces.leave_network"], ["network", "frozen"]),
        (["namespaces.freeze_all_but"], ["frozen"]),
        (["seccomp.refuse_calls"], ["sockets"]),
        (["landlock.restrict_files", "landlock.version"], ["files"]),
        (
            ["landlock.restrict_files", "landlock.version", "namespaces.leave_network"],
            ["files", "secrets", "network", "frozen"],
        ),
        (["landlock.restrict_files", "landlock.version", "namespaces.cover"], ["files", "secrets"]),
    ],
)
def test_a_missing_wall_is_shown_and_the_others_hold(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, functions: list[str], missing: list[str]
) -> None:
    before = machine_walls()
    without(monkeypatch, tmp_path / "less", *functions)
    walls = machine_walls()
    # On a machine without namespaces, only Landlock protects keys.
    assert walls in {
        msgspec.structs.replace(before, **dict.fromkeys(each, False)) for each in (missing, [*missing, "secrets"])
    }
    assert ("OPEN" in walls.describe()) == (not (walls.sockets and walls.files))
    ended = run_program(stage.spec(walls=walls))
    assert (ended.status, ended.notice) == (0, None)
    assert stage.reached() <= may_reach(walls)


@ON_LINUX
def test_a_machine_that_refuses_a_later_step_of_the_namespace_keeps_the_other_walls(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, tmp_path / "less")
    with (tmp_path / "less" / "sitecustomize.py").open("a") as file:
        file.write("\ndef refuse(*_):\n    raise PermissionError\nnamespaces._mount = refuse\n")
    walls = machine_walls()
    assert not walls.network
    assert (walls.sockets, walls.files) == (seccomp.machine() is not None, landlock.version() > 0)
    assert run_program(stage.spec(walls=walls)).status == 0
    assert stage.reached() <= may_reach(walls)


@ON_LINUX
def test_a_script_does_not_start_if_its_walls_are_weaker_than_shown(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = machine_walls()
    if shown == NO_WALLS:
        shown = ALL_WALLS
    without(
        monkeypatch, tmp_path / "less", "namespaces.leave_network", "seccomp.refuse_calls", "landlock.restrict_files"
    )
    ended = run_program(stage.spec(walls=shown))
    assert ended.status != 0
    assert ended.notice is not None
    assert ended.notice.detail.startswith(
        "the walls around the program are weaker than the ones that were shown (network: OPEN"
    )
    assert not (stage.here / "out" / "reached.json").exists()


@ON_LINUX
def test_a_process_that_a_program_starts_is_inside_the_same_walls(stage: Stage) -> None:
    walls = machine_walls()
    ended = run_program(stage.spec(walls=walls, allow_subprocess=True))
    assert (ended.status, ended.notice) == (0, None)
    processes = {"fork", "c_fork_and_exec"}
    # It may signal its own group, and others if this Landlock does not know signals yet.
    signals = {"signal_to_group", *([] if landlock.version() >= landlock.SCOPES_FROM else ["signal_to_supervisor"])}
    fetches = set() if walls.sockets or walls.network else {"subprocess_fetches"}
    assert processes <= stage.reached() <= may_reach(walls) | processes | signals | fetches


@ON_LINUX
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user: the other tests are about this one")
def test_a_plain_user_gets_the_same_walls() -> None:
    # Python may be where only root can start it, so root starts it and then changes its user. After that, it must be
    # dumpable to write its own /proc.
    code = f"""if True:
        import os
        from onionmpc.program.walls import linux, build as walls
        os.setgroups([]), os.setgid({NOBODY}), os.setuid({NOBODY}), os.chdir("/")
        linux.prctl(linux.PR_SET_DUMPABLE, 1)
        walls.main()"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=DEADLINE_S, check=True)
    walls = msgspec.json.decode(ran.stdout, type=Walls)
    assert (walls.sockets, walls.files) == (seccomp.machine() is not None, landlock.version() > 0)


def test_every_program_of_a_session_is_walled_in(tmp_path: Path) -> None:
    walls = machine_walls()
    script = """
    import os, socket
    from mpyc.runtime import mpc
    async def main():
        async with mpc:
            secint = mpc.SecInt(32)
            total = await mpc.output(mpc.sum(mpc.input(secint(mpc.pid))))
        try:
            socket.socket(socket.AF_INET)
            answer(total, "a socket")
        except PermissionError as error:
            answer(total, str(error))
    mpc.run(main())
    """
    plan = listed_plan(write_script(tmp_path / "script.py", script), walls=walls)

    async def main() -> None:
        async with room(3, plan, give_answer_files(plan, tmp_path, 3)) as place:
            place.start_listed()
            assert all(isinstance(ending, SessionResult) for ending in await place.endings())

    run(main())
    assert answers(tmp_path, 3) == [(3, "[Errno 1] the program is walled in and cannot open a socket")] * 3


def test_a_path_in_public_arguments_is_not_opened_for_a_joiners_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "program", "answers"):
        (tmp_path / name).mkdir()
    (tmp_path / "secret").write_text("secret")
    monkeypatch.chdir(tmp_path / "here")
    script = """
    from mpyc.runtime import mpc
    mpc.run(mpc.start())
    try:
        answer(Path(sys.argv[1]).read_text())
    except PermissionError:
        answer(None)
    mpc.run(mpc.shutdown())
    """
    walls = machine_walls()
    program = write_script(tmp_path / "program" / "script.py", script)
    plan = listed_plan(program, public=(str(tmp_path / "secret"),), walls=walls)
    plans = give_answer_files(plan, tmp_path / "answers", 3)
    plans |= {number: replace(plans[number], public=None) for number in (1, 2)}

    async def main() -> None:
        async with room(3, plan, plans) as place:
            place.start_hosted()
            assert all(isinstance(ending, SessionResult) for ending in await place.endings())

    run(main())
    assert answers(tmp_path / "answers", 3) == [("secret",), *[(None if walls.files else "secret",)] * 2]


@ON_LINUX
def test_a_session_whose_walls_are_weaker_than_shown_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(
        monkeypatch, tmp_path / "less", "namespaces.leave_network", "seccomp.refuse_calls", "landlock.restrict_files"
    )
    plan = listed_plan(write_script(tmp_path / "script.py", "answer('ran')"))
    plans = give_answer_files(plan, tmp_path, 3)
    plans[1] = replace(plans[1], walls=ALL_WALLS)

    async def main() -> None:
        async with room(3, plan, plans) as place:
            place.start_listed()
            for ending in await place.endings():
                assert isinstance(ending, OnionMPCError)
        assert not (tmp_path / "answer1").exists()

    run(main())


def test_a_dry_run_is_walled_in(tmp_path: Path) -> None:
    script = (
        "import errno, os\n"
        "for path in ('/etc/hostname', '/proc/1/cmdline'):\n"
        "    try:\n        os.open(path, os.O_RDONLY)\n"
        "    except OSError as error:\n        assert error.errno in (errno.EACCES, errno.ENOENT), error\n"
        "    else:\n        raise AssertionError(path)\n"
    )
    walls = machine_walls()
    spec = write_spec(tmp_path, (script if walls.files else "") + CHAIN, "1")
    asyncio.run(rehearse(msgspec.structs.replace(spec, walls=walls), lambda _one, _other: 0.0))


# -- what may be read and written

WRITES = """
import sys
from pathlib import Path
done = []
for name in ("new.txt", "library/module.py", "state/cookie"):
    try:
        Path(name).write_text("written")
        done.append(name)
    except OSError:
        pass
try:
    done += [path.name for path in Path("state").iterdir()]
except OSError:
    pass
Path("out/done").write_text(repr(done))
"""


@ON_LINUX
@pytest.mark.parametrize("mounts", [True, False])
def test_a_folder_is_opened_without_the_secrets_and_libraries_in_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, *, mounts: bool
) -> None:
    library = stage.here / "library"
    library.mkdir()
    (library / "module.py").write_text("kept")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(library), *sys.path]))
    if not mounts:
        without(monkeypatch, library, "namespaces.leave_network")
    walls = machine_walls()
    stage.script.write_text(WRITES)
    assert run_program(stage.spec(walls=walls)).status == 0
    done = eval((stage.here / "out" / "done").read_text())
    # Without mounts, no part can be taken out of a folder. So its other parts are opened one by one instead.
    assert ("new.txt" in done) == (walls.network or not walls.files)
    if walls.files:
        assert set(done) <= {"new.txt"}
        assert (library / "module.py").read_text() == "kept"
        assert (stage.here / "state" / "cookie").read_text() == "secret"


def spec_of(folder: Path, *named: str, **changes: object) -> ProgramSpec:
    spec = ProgramSpec(str(folder / "script.py"), str(folder), (), 0, 1, 0, (), named=named)
    return msgspec.structs.replace(spec, **changes)


CHANGES_ITSELF = """
import os
from pathlib import Path

def tried(change):
    try:
        change()
    except OSError:
        return False
    return True

def replace(name):
    Path("new").write_text("changed")
    os.replace("new", name)

Path("figure.png").write_text("drawn")
Path("package/deep/table.csv").write_text("a,b")
CHANGES = (
    lambda name: open(name, "a").close(),
    lambda name: os.truncate(name, 0),
    lambda name: os.chmod(name, 0o777),
    lambda name: os.utime(name, (1, 1)),
    lambda name: os.link(name, "linked") or open("linked", "a").close(),
    replace,
    lambda name: os.rename(name, "moved"),
    os.unlink,
    lambda name: os.rename(os.path.dirname(name) or ".", "moved"),
)
FILES = ("script.py", "beside.py", "package/deep/module.py")
done = {name: sum(tried(lambda: change(name)) for change in CHANGES) for name in FILES}
done["package"] = int(tried(lambda: os.rename("package", "moved")))
Path("done").write_text(repr(done))
"""


@ON_LINUX
@pytest.mark.parametrize("functions", [(), ("namespaces.freeze_all_but",), ("landlock.restrict_files",)])
def test_a_program_beside_its_files_writes_results_there_but_cannot_replace_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, functions: tuple[str, ...]
) -> None:
    here = tmp_path / "here"
    (here / "package" / "deep").mkdir(parents=True)
    files = {"script.py": CHANGES_ITSELF, "beside.py": "", "package/deep/module.py": ""}
    for name, text in files.items():
        (here / name).write_text(text)
    monkeypatch.chdir(here)
    without(monkeypatch, tmp_path / "less", *functions)
    walls = machine_walls()
    spec = spec_of(here, walls=walls, code={str(here / name): text.encode() for name, text in files.items()})
    assert run_program(spec).status == 0
    assert (here / "figure.png").read_text() == "drawn"
    assert (here / "package" / "deep" / "table.csv").read_text() == "a,b"
    if walls.network:  # the mounts come with it
        assert eval((here / "done").read_text()) == dict.fromkeys([*files, "package"], 0)
        assert {name: (here / name).read_text() for name in files} == files


# No mount, no protection for a file in a folder that is open for writing: see THREATS. But results still land there.
@ON_LINUX
def test_without_mounts_results_land_beside_the_program_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "script.py").write_text(
        "from pathlib import Path\nPath('figure.png').write_text('drawn')\n"
        "try:\n    Path('../figure.png').write_text('drawn')\nexcept OSError:\n    Path('refused').touch()\n"
    )
    monkeypatch.chdir(tmp_path / "here")
    without(monkeypatch, tmp_path / "less", "namespaces.leave_network")
    walls = machine_walls()
    code = {str(tmp_path / "here" / "script.py"): (tmp_path / "here" / "script.py").read_bytes()}
    assert run_program(spec_of(tmp_path / "here", walls=walls, code=code)).status == 0
    assert (tmp_path / "here" / "figure.png").read_text() == "drawn"
    assert (tmp_path / "here" / "refused").exists() == walls.files == (not (tmp_path / "figure.png").exists())


QUOTA = """
import os
from pathlib import Path
from onionmpc.program.walls.build import QUOTA_FILES
seen = []
for folder, _, files in os.walk("/sys/fs/cgroup"):
    seen.append(folder)
for name in (*QUOTA_FILES, "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/cpu/cgroup.procs", "/sys/fs/cgroup/cpu.stat"):
    try:
        Path(name).read_text()
        seen.append(name)
    except OSError:
        pass
for name in QUOTA_FILES:
    try:
        Path(name).write_text("1")
        seen.append("written")
    except OSError:
        pass
Path("seen").write_text(repr(seen))
"""


@ON_LINUX
def test_of_control_groups_a_program_reads_the_limit_of_processor_time_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "program"):
        (tmp_path / name).mkdir()
    (tmp_path / "program" / "script.py").write_text(QUOTA)
    monkeypatch.chdir(tmp_path / "here")
    walls = machine_walls()
    code = {str(tmp_path / "program" / "script.py"): QUOTA.encode()}
    assert run_program(spec_of(tmp_path / "program", walls=walls, code=code)).status == 0
    if walls.files:
        assert eval((tmp_path / "here" / "seen").read_text()) == [name for name in QUOTA_FILES if Path(name).exists()]


OWN_ENTRY = """
import os
from pathlib import Path
seen = []
for name in ("maps", "status", "net/dev", "net/tcp", "mountinfo", "environ", "cmdline"):
    for process in ("self", os.getppid()):
        try:
            Path(f"/proc/{process}/{name}").read_bytes()
            seen.append(f"{process}/{name}")
        except OSError:
            pass
Path("seen").write_text(repr(seen))
"""


# threadpoolctl, and so scikit-learn, needs this list.
@ON_LINUX
def test_without_a_namespace_a_program_reads_the_list_of_its_libraries_alone_of_proc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "program"):
        (tmp_path / name).mkdir()
    (tmp_path / "program" / "script.py").write_text(OWN_ENTRY)
    monkeypatch.chdir(tmp_path / "here")
    without(monkeypatch, tmp_path / "less", "namespaces.leave_network")
    walls = machine_walls()
    code = {str(tmp_path / "program" / "script.py"): OWN_ENTRY.encode()}
    assert run_program(spec_of(tmp_path / "program", walls=walls, code=code)).status == 0
    if walls.files:
        assert eval((tmp_path / "here" / "seen").read_text()) == ["self/maps"]


def lets(paths: Iterator[Path], path: Path) -> bool:
    return any(path.is_relative_to(place) for place in list(paths))


def test_paths_in_arguments_can_be_read_and_written_but_not_their_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "program", "data", "results"):
        (tmp_path / name).mkdir()
    for name in ("data/input", "data/other"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path / "here")
    spec = spec_of(tmp_path / "program", "--input=../data/input", "--output", "../results/new.txt", "yes,no", "a\0b")
    for path in ("program/module.py", "here/x", "data/input", "results/new.txt"):
        assert lets(readable(spec), tmp_path / path) or lets(writable(spec), tmp_path / path)
    for path in ("here/x", "data/input", "results/new.txt"):
        assert lets(writable(spec), tmp_path / path)
    for path in ("data/other", "data/new", "x"):
        assert not lets(readable(spec), tmp_path / path)
        assert not lets(writable(spec), tmp_path / path)
    assert not lets(writable(spec), tmp_path / "program/module.py")


def test_of_etc_a_program_reads_the_configuration_of_fonts_but_nothing_about_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = spec_of(tmp_path)
    assert lets(readable(spec), Path("/etc/fonts/fonts.conf"))
    for name in ("hostname", "hosts", "machine-id", "shadow", "ssh/ssh_config", "resolv.conf", "tor/torrc"):
        assert not lets(readable(spec), Path("/etc", name))
    assert not lets(writable(spec), Path("/etc/fonts/fonts.conf"))


# Issue 12.
def test_a_path_glued_to_its_option_counts_like_a_separate_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("here", "program", "data", "results"):
        (tmp_path / name).mkdir()
    (tmp_path / "data/input").touch()
    monkeypatch.chdir(tmp_path / "here")
    words = ("-i../data/input", "-o", f"-r{tmp_path}/results/new.txt", "-3/4", "-", "--x/y")
    glued = spec_of(tmp_path / "program", *words)
    apart = spec_of(tmp_path / "program", "-i", "../data/input", "-o", "-r", f"{tmp_path}/results/new.txt")
    assert sorted(writable(glued)) == sorted(writable(apart))
    assert sorted(readable(glued)) == sorted(readable(apart))


@pytest.mark.parametrize("stands", ["home", "", "home/project"])
def test_a_home_is_not_opened_as_working_directory_or_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stands: str
) -> None:
    home = tmp_path / "home"
    (home / "project").mkdir(parents=True)
    (home / ".ssh").mkdir()
    (home / "mine.py").touch()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path / stands)
    spec = spec_of(home, str(home), "/", f"{home}/new.txt")
    for path in (home / ".ssh/id", home / ".bashrc", home / "letter.txt", home / "new.txt"):
        assert not lets(readable(spec), path)
        assert not lets(writable(spec), path)
    assert lets(readable(spec), home / "mine.py")  # the script and its neighbours
    assert lets(writable(spec), home / "project/x") == (stands == "home/project")


def test_hidden_folders_stay_hidden_inside_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state" / "identities").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "way").symlink_to(tmp_path / "state")
    monkeypatch.chdir(tmp_path)
    key = str(tmp_path / "state" / "identities" / "me.key")
    Path(key).touch()
    spec = spec_of(tmp_path, key, "/dev/shm", "/run", "/proc/1/mem", hidden=(str(tmp_path / "state"),))
    for path in (
        Path(key),
        tmp_path / "way",
        tmp_path / "state",
        Path("/run/dbus"),
        Path("/dev/shm/x"),
        Path("/proc/1"),
    ):
        assert not lets(readable(spec), path)
        assert not lets(writable(spec), path)
    assert lets(writable(spec), tmp_path / "data" / "x")


def test_python_and_onionmpc_can_never_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(seccomp.__file__).parents[2]
    for place in (package, package.parent, Path(sys.prefix)):
        monkeypatch.chdir(place)
        spec = spec_of(Path.cwd(), str(place), str(package / "cli"))
        for path in (package, package / "cli" / "main.py", Path(sys.prefix) / "lib"):
            assert not lets(writable(spec), path)
        assert lets(readable(spec), package / "cli")


# -- the guard

GUARDED = """
import asyncio, os, socket, subprocess, sys
from onionmpc.program.walls.guard import set_guard
set_guard(allow_subprocess=len(sys.argv) > 1)
def refused(work):
    try:
        work()
    except PermissionError as error:
        return str(error).startswith("[Errno 1] the program is walled in and cannot ")
    except Exception:
        return False
    return False
one, other = socket.socketpair()
inherited = socket.socket(fileno=os.dup(one.fileno()))
inherited.sendmsg([b"x"])
async def main():  # a loop has its own pair, and takes inherited sockets
    reader, writer = await asyncio.open_unix_connection(sock=other)
    assert await reader.read(1) == b"x"
    writer.close()
asyncio.run(main())
starts = [
    lambda: subprocess.run(["true"]),
    lambda: os.system("true"),
    lambda: os.fork() or os._exit(0),
    lambda: os.posix_spawn("/bin/true", ["true"], {}),
    lambda: asyncio.run(asyncio.create_subprocess_exec("true")),
]
rest = [
    lambda: socket.getaddrinfo("localhost", 1),
    lambda: socket.gethostbyname("localhost"),
    lambda: socket.gethostbyaddr("127.0.0.1"),
    lambda: socket.getnameinfo(("127.0.0.1", 1), 0),
    lambda: socket.socket(),
    lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
    lambda: socket.socket(socket.AF_UNIX).connect("/tmp/there"),
    lambda: socket.socket(socket.AF_UNIX).bind("/tmp/here"),
    lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"x", "/tmp/there"),
    lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendmsg([b"x"], [], 0, "/tmp/there"),
    lambda: asyncio.run(asyncio.open_connection("127.0.0.1", 1)),
]
print([refused(work) for work in starts], all(refused(work) for work in rest))
"""


@pytest.mark.parametrize("allow_subprocess", [False, True])
def test_the_guard_refuses_look_ups_sockets_and_processes_but_nothing_that_mpyc_needs(
    *, allow_subprocess: bool
) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", GUARDED, *(["allow"] if allow_subprocess else [])],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    assert ran.stdout == f"{[not allow_subprocess] * 5} True\n"


# -- with a real tor


@pytest.mark.tor
@ON_LINUX
def test_a_program_cannot_speak_to_tor(stage: Stage) -> None:
    from onionmpc.tor.process.own_tor import own_tor

    async def main() -> ProgramExit:
        with socket_directory() as sockets:
            profile = private_directory(stage.here / "state" / "profile")
            async with asyncio.timeout(DEADLINE_S), own_tor(profile, sockets, "DisableNetwork 1") as tor:
                found = profile / "data" / "control_auth_cookie"
                assert found.exists()
                stage.targets.update(control=str(tor.directory / "control"), cookie=str(found))
                async with start_program(stage.spec(walls=walls), []) as program:
                    return await program.wait()

    walls = machine_walls()
    ended = asyncio.run(main())
    assert (ended.status, ended.notice) == (0, None)
    assert stage.reached() <= may_reach(walls)
