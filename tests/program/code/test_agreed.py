"""The program process runs only the bytes that were compared and what is installed. It refuses other code by name."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from onionmpc.cli.main import run
from onionmpc.program.code.attached import attach
from onionmpc.program.code.catalogue import code_of, find_program
from onionmpc.program.process.launch import start_program
from onionmpc.program.process.streams import unattended
from onionmpc.program.spec import ProgramSpec

DEADLINE_S = 60.0
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the program, which is also the user's working directory. Our state is outside it."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ONIONMPC_STATE", str(tmp_path / "state"))
    return folder


def write(folder: Path, contents: dict[str, str]) -> None:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(content))


def spec_of(script: Path, *with_files: Path, allow_subprocess: bool = False) -> ProgramSpec:
    """Return the spec that runs a script as the only party of a session."""
    program, attached = find_program(str(script)), attach(with_files)
    return ProgramSpec(
        script=str(program.path),
        folder=str(program.folder),
        arguments=(),
        number=0,
        parties=1,
        threshold=0,
        mpyc_options=(),
        code=code_of(program, attached),
        on_disk=attached.on_disk(),
        reads=tuple(map(str, attached.places)),
        allow_subprocess=allow_subprocess,
    )


def run_program(spec: ProgramSpec) -> tuple[int, str]:
    """Run a program; return its exit status and what it wrote to stderr."""

    async def main() -> int:
        async with asyncio.timeout(DEADLINE_S), start_program(spec, [], streams=unattended(log)) as program:
            return (await program.wait()).status

    with tempfile.TemporaryFile() as log:
        status = asyncio.run(main())
        log.seek(0)
        return status, log.read().decode()


def said(spec: ProgramSpec) -> str:
    """Run a program that succeeds, and return what it wrote to stderr."""
    status, words = run_program(spec)
    assert status == 0, words
    return words


def refused(spec: ProgramSpec, name: str, option: str | None = None) -> None:
    """Run a program that must not load a file."""
    status, words = run_program(spec)
    sentence = f"onionmpc.NotAgreed: {name} is not among the files that the parties agreed on"
    assert status == 1, words
    assert f"{sentence}; if the program needs it, every party adds --with {option or name}\n" in words


# -- the bytes that were compared

SAYS = "import sys\nprint({0!r}, file=sys.stderr)\n"


def test_a_file_saved_after_the_comparison_changes_nothing(here: Path) -> None:
    # Issue 12.
    write(here, {"script.py": "import helper\n" + SAYS.format("old script"), "helper.py": SAYS.format("old helper")})
    write(here, {"package/__init__.py": "", "package/inner.py": SAYS.format("old inner")})
    with (here / "script.py").open("a") as file:
        file.write("from package import inner\nfrom bare import deep\n")
    write(here, {"bare/deep.py": SAYS.format("old deep")})
    spec = spec_of(here / "script.py")
    for name in ("script.py", "helper.py", "package/inner.py"):
        (here / name).write_text(SAYS.format("new"))
    shutil.rmtree(here / "bare")
    assert said(spec).split("\n")[:-1] == ["old helper", "old script", "old inner", "old deep"]


def test_a_traceback_shows_the_lines_that_ran_and_nothing_of_ours(here: Path) -> None:
    write(
        here, {"script.py": "import helper\nhelper.fail()\n", "helper.py": "def fail():\n    raise ValueError('old')\n"}
    )
    spec = spec_of(here / "script.py")
    write(here, {"script.py": "# new\n" * 9, "helper.py": "# new\n" * 9})
    status, words = run_program(spec)
    assert status == 1
    assert words.startswith("Traceback (most recent call last):\n")
    assert "raise ValueError('old')" in words
    assert "helper.fail()" in words
    assert "new" not in words
    assert "onionmpc" not in words


def test_bytecode_beside_a_module_is_not_run(here: Path) -> None:
    # Issue 12: Python runs an unchecked .pyc whatever the source says.
    write(here, {"script.py": "import helper, package\n", "helper.py": SAYS.format("as agreed")})
    write(here, {"package/__init__.py": SAYS.format("as agreed"), "evil.py": SAYS.format("planted")})
    for module in ("helper.py", "package/__init__.py"):
        planted = importlib.util.cache_from_source(str(here / module))
        py_compile.compile(
            str(here / "evil.py"),
            planted,
            str(here / module),
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
    plain = subprocess.run(
        [sys.executable, "script.py"], capture_output=True, text=True, check=True, timeout=DEADLINE_S
    )
    assert plain.stderr == "planted\nplanted\n"
    assert said(spec_of(here / "script.py")) == "as agreed\nas agreed\n"


def test_data_beside_a_script_is_found_by_its_own_name(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """
    import importlib.resources, sys
    from pathlib import Path
    import package
    print(Path(__file__).with_name("data.csv").read_text(), file=sys.stderr)
    print(importlib.resources.files(package).joinpath("inner.csv").read_text(), file=sys.stderr)
    """
    write(here, {"script.py": script, "data.csv": "1,2", "package/__init__.py": "", "package/inner.csv": "3,4"})
    monkeypatch.chdir("/")
    assert said(spec_of(here / "script.py")) == "1,2\n3,4\n"


def test_a_script_is_a_module_as_python_makes_it(here: Path) -> None:
    script = """
    import inspect, pickle, sys, multiprocessing, pkgutil
    class Vote:
        pass
    main = sys.modules["__main__"]
    assert main.Vote is Vote and main.__dict__ is globals()
    assert (__name__, __file__, __spec__, __package__) == ("__main__", sys.argv[0], None, None)
    assert type(pickle.loads(pickle.dumps(Vote()))) is Vote
    assert inspect.getsource(Vote) == "class Vote:\\n    pass\\n"
    assert "helper" in [module.name for module in pkgutil.iter_modules()]
    import helper
    assert helper.__spec__.origin == helper.__file__ == f"{sys.path[0]}/helper.py"
    assert inspect.getsource(helper) == "x = 1\\n"
    """
    write(here, {"script.py": script, "helper.py": "x = 1\n"})
    assert said(spec_of(here / "script.py")) == ""


def test_a_forked_process_keeps_the_module_of_the_script(here: Path) -> None:
    script = """
    import multiprocessing, sys
    def work(end):
        import helper
        end.send(helper.x + 1)
    if __name__ == "__main__":
        context = multiprocessing.get_context("fork")
        near, far = context.Pipe()
        process = context.Process(target=work, args=(far,))
        process.start()
        print(near.recv(), process.join(), process.exitcode, file=sys.stderr)
    """
    write(here, {"script.py": script, "helper.py": "x = 1\n"})
    assert said(spec_of(here / "script.py", allow_subprocess=True)) == "2 None 0\n"


def test_a_script_in_another_encoding_runs_as_in_python(here: Path) -> None:
    # Issue 12.
    text = "# -*- coding: latin-1 -*-\nimport sys, helper\nprint(ascii('Grüße'), helper.x, file=sys.stderr)\n"
    (here / "script.py").write_bytes(text.encode("latin-1"))
    (here / "helper.py").write_bytes(b"\xef\xbb\xbfx = 1\r\n")
    assert said(spec_of(here / "script.py")) == "'Gr\\xfc\\xdfe' 1\n"


# -- files that are left open

LEAVES_OPEN = """
import sys
from mpyc.runtime import mpc
out = open("result.txt", "w")
async def main():
    async with mpc:
        out.write("hello, file\\n")
mpc.run(main())
{end}
"""


@pytest.mark.parametrize(("end", "status"), [("", 0), ("sys.exit(3)", 3), ("raise ValueError", 1)])
def test_a_file_that_the_script_leaves_open_is_written(here: Path, end: str, status: int) -> None:
    # Issue 12.
    write(here, {"script.py": LEAVES_OPEN.format(end=end)})
    assert run_program(spec_of(here / "script.py"))[0] == status
    assert (here / "result.txt").read_text() == "hello, file\n"


def test_atexit_functions_and_destructors_find_the_names_of_the_script(here: Path) -> None:
    script = """
    import atexit, sys, threading
    word = "there"
    def last():
        print(word, file=sys.stderr)
    atexit.register(last)
    class Held:
        def __del__(self):
            sys.stderr.write("gone\\n")
    held = Held()
    """
    write(here, {"script.py": script})
    assert said(spec_of(here / "script.py")) == "there\ngone\n"


# -- what was not compared

PLUG = {"plug.py": SAYS.format("plugged in")}
FROM_FILE = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("other", {path!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
"""


def extension(folder: Path) -> Path:
    """Copy an extension module of the standard library to another place."""
    library = Path(sysconfig.get_path("stdlib")) / "lib-dynload"
    found = sorted(library.glob("_codecs_*.so"))
    if not found:
        pytest.skip("this Python has no extension modules in files")
    folder.mkdir(exist_ok=True)
    return Path(shutil.copy(found[0], folder))


def zipped(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        archive.writestr("plug.py", PLUG["plug.py"])
    return folder / "more.zip"


@pytest.mark.parametrize(
    ("script", "place"),
    [
        ("import importlib\nimportlib.import_module('plug')\n", "plug.py"),
        ("__import__('plug')\n", "plug.py"),
        ("import importlib\nimportlib.import_module('more.plug')\n", "more/plug.py"),
        ("import runpy\nrunpy.run_module('plug')\n", "plug.py"),
        ("import sys\nsys.path.append('more')\nimport plug\n", "more/plug.py"),
        ("import sys, os\nsys.path.insert(0, os.path.abspath('../far'))\nimport plug\n", "../far/plug.py"),
        (FROM_FILE.format(path="more/plug.py"), "more/plug.py"),
        ("import sys\nsys.path_hooks.clear()\n" + FROM_FILE.format(path="plug.py"), "plug.py"),
        ("from importlib.machinery import *\nSourceFileLoader('plug', 'plug.py').load_module()\n", "plug.py"),
    ],
)  # fmt: skip
def test_a_module_that_was_not_compared_is_refused_by_name_until_it_is_attached(
    here: Path, script: str, place: str
) -> None:
    # Issue 12.
    write(here, {"script.py": script, place: PLUG["plug.py"]})
    path = (here / place).resolve()
    refused(spec_of(here / "script.py"), place if ".." not in place else str(path))
    spec = spec_of(here / "script.py", path)
    path.write_text(SAYS.format("changed"))
    assert "plugged in\n" in said(spec)


def test_a_package_is_named_by_its_folder(here: Path) -> None:
    script = "import importlib\nimportlib.import_module('pack.age.inner')\n"
    write(here, {"script.py": script, "pack/age/__init__.py": "from . import other", "pack/age/other.py": ""})
    write(here, {"pack/__init__.py": "", "pack/age/inner.py": SAYS.format("inner")})
    refused(spec_of(here / "script.py"), "pack/__init__.py", "pack")
    assert said(spec_of(here / "script.py", here / "pack")) == "inner\n"


@pytest.mark.parametrize("how", ["in sys.path", "from file"])
def test_an_extension_module_is_refused_by_name_until_it_is_attached(here: Path, how: str) -> None:
    path = extension(here / "more")
    name = path.name.partition(".")[0]
    # From a file, the spec's ExtensionFileLoader makes the module, and no finder is involved.
    from_file = FROM_FILE.format(path=f"more/{path.name}").replace("other", name)
    script = f"import sys\nsys.path.insert(0, 'more')\nimport {name}\n" if how == "in sys.path" else from_file
    write(here, {"script.py": script})
    refused(spec_of(here / "script.py"), f"more/{path.name}")
    assert said(spec_of(here / "script.py", path)) == ""


def test_a_shared_library_is_refused_by_name_until_it_is_attached(here: Path) -> None:
    path = extension(here).rename(here / "libplug.so")
    write(here, {"script.py": f"import ctypes\nctypes.CDLL({str(path)!r})\n"})
    refused(spec_of(here / "script.py"), "libplug.so")
    spec = spec_of(here / "script.py", path)
    assert said(spec) == ""
    path.write_bytes(path.read_bytes() + b"\0")
    status, words = run_program(spec)
    assert status == 1
    assert words.endswith("onionmpc.NotAgreed: libplug.so changed after the parties had agreed on it\n")


def test_a_zip_is_refused_by_name_until_it_is_attached(here: Path) -> None:
    write(here, {"script.py": "import sys\nsys.path.append('more.zip')\nimport plug\n"})
    path = zipped(here)
    refused(spec_of(here / "script.py"), "more.zip")
    assert said(spec_of(here / "script.py", path)) == "plugged in\n"


def test_bytecode_without_source_is_refused_by_name_until_it_is_attached(here: Path) -> None:
    write(here, {"script.py": "import importlib\nimportlib.import_module('plug')\n", **PLUG})
    py_compile.compile("plug.py", "plug.pyc")
    (here / "plug.py").unlink()
    refused(spec_of(here / "script.py"), "plug.pyc")
    assert said(spec_of(here / "script.py", here / "plug.pyc")) == "plugged in\n"


def test_a_module_on_pythonpath_is_refused(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "far", PLUG)
    write(here, {"script.py": "import plug\n"})
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "far"))
    monkeypatch.syspath_prepend(tmp_path / "far")  # the supervisor has it too, or it would report a missing package
    refused(spec_of(here / "script.py"), str(tmp_path / "far" / "plug.py"))


@pytest.mark.parametrize("name", ["mpyc/__init__.py", "numpy/__init__.py", "selectors.py", "msgspec/__init__.py"])
def test_a_module_on_pythonpath_that_replaces_one_of_our_imports_is_refused(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    module = name.partition("/")[0].removesuffix(".py")
    found = importlib.util.find_spec(module)
    assert found is not None
    real = Path(str(found.origin))
    place = tmp_path / "far" / name.partition("/")[0]
    place.parent.mkdir()
    shutil.copytree(real.parent, place) if "/" in name else shutil.copy(real, place)
    write(here, {"script.py": ""})
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "far"))
    status, words = run_program(spec_of(here / "script.py"))
    assert status == 1
    assert words.startswith(f"onionmpc: error: {tmp_path / 'far'}/{name.partition('/')[0]}")
    assert "Traceback" not in words


def test_a_script_can_catch_the_refusal_of_a_module(here: Path) -> None:
    script = """
    import sys
    try:
        __import__("plug")
    except ImportError as error:
        print(type(error).__name__, error.path, file=sys.stderr)
    """
    write(here, {"script.py": script, **PLUG})
    assert said(spec_of(here / "script.py")) == f"NotAgreed {here / 'plug.py'}\n"


# -- what is installed

INSTALLED = """
import ctypes, ctypes.util, sys, decimal, zoneinfo, xml.etree.ElementTree, multiprocessing
import numpy as np
import matplotlib
matplotlib.use("agg")
from matplotlib import font_manager, pyplot
import yaml
ctypes.CDLL(None)
if sys.platform == "linux":
    ctypes.CDLL("libc.so.6")
assert np.linalg.norm(np.array([3.0, 4.0])) == 5.0
assert font_manager.findfont("DejaVu Sans").startswith(matplotlib.get_data_path())
figure, axes = pyplot.subplots()
axes.plot([1, 2])
axes.set_title("$x^2$")
figure.savefig("figure.png")
assert yaml.safe_load("a: 1") == {"a": 1}
"""


def test_installed_packages_are_imported_and_find_their_data(here: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("yaml")
    write(here, {"script.py": INSTALLED})
    assert said(spec_of(here / "script.py")) == ""
    assert (here / "figure.png").stat().st_size > 1000


GUARDED = """
import sys
from onionmpc.program.code.agreed import AgreedFiles
AgreedFiles({}, {}).guard_imports()
for name in sys.argv[1:]:
    try:
        __import__(name)
        print(name, "imported")
    except ImportError as error:
        print(name, type(error).__name__, error.path)
"""
FINDER = """
import importlib.util, sys
class Finder:
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        return importlib.util.spec_from_file_location(fullname, {path!r}) if fullname == "mapped" else None
def install():
    sys.meta_path.append(Finder)
"""


def guarded(python: Sequence[str], *names: str, **environment: str) -> list[str]:
    """Import modules in a process where no file was agreed on; return the outcome for each."""
    ran = subprocess.run(
        [*python, "-c", GUARDED, *names],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE_S,
    )
    return ran.stdout.splitlines()


def test_editable_installs_and_links_to_a_checkout_are_refused(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", symlinks=True)
    (site,) = (tmp_path / "venv" / "lib").glob("python3*/site-packages")
    write(tmp_path / "checkout", {"edited.py": "", "mapped.py": "", "linked/__init__.py": ""})
    write(
        site, {"installed.py": "", "__editable___finder.py": FINDER.format(path=str(tmp_path / "checkout/mapped.py"))}
    )
    write(
        site, {"a.pth": f"{tmp_path}/checkout\n", "b.pth": "import __editable___finder; __editable___finder.install()"}
    )
    (site / "linked").symlink_to(tmp_path / "checkout" / "linked")
    assert guarded([str(tmp_path / "venv/bin/python"), "-P"], "installed", "edited", "mapped", "linked") == [
        "installed imported",
        f"edited NotAgreed {tmp_path}/checkout/edited.py",
        f"mapped NotAgreed {tmp_path}/checkout/mapped.py",
        f"linked NotAgreed {site}/linked/__init__.py",
    ]


def test_a_package_of_links_into_system_folders_counts_as_installed_even_if_the_prefix_is_a_link(
    tmp_path: Path,
) -> None:
    shared = Path("/usr/share/python3/debpython")
    if not shared.is_dir():
        pytest.skip("no package in /usr/share")
    venv.create(tmp_path / "venv", symlinks=True)
    (tmp_path / "way").symlink_to(tmp_path / "venv")
    (site,) = (tmp_path / "venv" / "lib").glob("python3*/site-packages")
    (site / "debpython").symlink_to(shared)
    write(site, {"installed.py": ""})
    outcomes = guarded([str(tmp_path / "way/bin/python"), "-P"], "installed", "debpython")
    assert outcomes == ["installed imported", "debpython imported"]


def test_the_user_site_counts_as_installed_where_python_enables_it(tmp_path: Path) -> None:
    python = [f"{sys.base_prefix}/bin/python{sys.version_info[0]}.{sys.version_info[1]}", "-P"]
    folder = tmp_path / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    write(folder, PLUG)
    assert guarded(python, "plug", PYTHONUSERBASE=str(tmp_path)) == ["plug imported"]
    assert guarded([*python, "-s"], "plug", PYTHONUSERBASE=str(tmp_path)) == ["plug ModuleNotFoundError None"]


def test_packages_of_debian_count_as_installed() -> None:
    modules = [path.stem for path in sorted(Path("/usr/lib/python3/dist-packages").glob("*.py"))[:3]]
    if not modules or not Path("/usr/bin/python3.11").exists():
        pytest.skip("no Debian with a Python that is new enough")
    outcomes = guarded(["/usr/bin/python3.11", "-P"], *modules)
    assert not any("NotAgreed" in line for line in outcomes)
    assert any(line.endswith("imported") for line in outcomes)


# -- through the command


def test_the_command_names_a_module_that_was_not_compared_and_runs_it_once_it_is_attached(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # Issue 12: a planted .pyc, a CSV found by __file__, and a module that no scan sees, in one folder.
    script = """
    import importlib, sys
    from pathlib import Path
    from mpyc.runtime import mpc
    import helper
    assert Path(__file__).with_name("data.csv").read_text() == "1,2"
    out = open("result.txt", "a")
    out.write(helper.word + importlib.import_module("plug").word)
    mpc.run(mpc.start())
    mpc.run(mpc.shutdown())
    """
    write(here, {"script.py": script, "helper.py": "word = 'agreed '", "plug.py": "word = 'plug '", "data.csv": "1,2"})
    write(here, {"evil.py": "word = 'planted '"})
    planted = importlib.util.cache_from_source("helper.py")
    py_compile.compile("evil.py", planted, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    command = ["estimate", "script.py", "--parties", "2"]
    assert run(command) == 1
    words = capfd.readouterr().err
    assert "plug.py is not among the files that the parties agreed on" in words
    assert "--with plug.py" in words
    (here / "result.txt").unlink()
    assert run([*command, "--with", "plug.py"]) == 0
    assert (here / "result.txt").read_text() == "agreed plug " * 4  # two parties, twice


def test_skipped_folders_are_reported(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(here, {"script.py": "from mpyc.runtime import mpc\nmpc.run(mpc.start())\nmpc.run(mpc.shutdown())\n"})
    write(here, {"more/.git/config": "", "more/data.csv": ""})
    assert run(["estimate", "script.py", "--parties", "2", "--with", "more"]) == 0
    assert f"note: --with skips .git and __pycache__: {here}/more/.git may differ" in capfd.readouterr().err


# -- agreed files stay as they are

WRITES = """
import os, sys
from pathlib import Path
def attempt(work):
    try:
        work()
        return "done"
    except OSError:
        return "refused"
print(*map(attempt, [
    lambda: Path("data.csv").write_text("changed"),
    lambda: Path("more/inner.csv").write_text("changed"),
    lambda: Path("more/new.csv").write_text("new"),
    lambda: Path("more/inner.csv").unlink(),
    lambda: Path("data.csv").rename("moved.csv"),
]), Path("data.csv").read_text(), Path("more/inner.csv").read_text(), file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has walls")
@pytest.mark.parametrize("mounts", [True, False])
def test_attached_files_are_read_only_in_a_folder_that_the_program_may_write(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, mounts: bool
) -> None:
    # Issue 12.
    write(here, {"script.py": WRITES, "data.csv": "kept", "more/inner.csv": "kept"})
    if not mounts:
        write(
            tmp_path / "less",
            {"sitecustomize.py": "from onionmpc.program.walls import namespaces as n\nn.leave_network = bool\n"},
        )
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "less"), *sys.path]))
    spec = spec_of(here / "script.py", here / "data.csv", here / "more")
    spec = msgspec.structs.replace(spec, named=("data.csv",))
    assert said(spec) == "refused refused refused refused refused kept kept\n"
