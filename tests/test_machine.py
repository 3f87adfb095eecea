"""What the operating system refuses ends in a sentence: by error number, and through the commands of a poor machine."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from onionmpc import files
from onionmpc.errors import PeerUnreachable, SystemRefused
from onionmpc.machine import explained, refused, refusing
from onionmpc.program.process import launch
from tests.support.machine import check_told, in_shell, needs_mounts, on_machine
from tests.support.session import listed_plan, room, run, same_sentence, write_script

FULL = "mount -t tmpfs -o size=4k,mode=700 none {0} && head -c 4096 /dev/zero > {0}/filler"
WITHOUT_FILES = "mount -t tmpfs -o nr_inodes={1},mode=700 none {0}"
READ_ONLY = "mount -t tmpfs -o ro,mode=700 none {0}"


# Issue 12.
@pytest.mark.parametrize(
    "number",
    [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO],
)
def test_a_fault_of_the_machine_is_told_with_its_place_and_a_hint(number: int) -> None:
    told = explained(OSError(number, os.strerror(number), "/some/place"))
    assert isinstance(told, SystemRefused)
    assert told.message == f"cannot use /some/place: {os.strerror(number)}"
    assert told.hint
    assert told.exit_code == 2


@pytest.mark.parametrize("number", [errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EEXIST])
def test_what_only_a_bug_does_stays_a_bug(number: int) -> None:
    assert explained(OSError(number, os.strerror(number))) is None
    assert explained(ValueError("a bug")) is None
    assert explained(RuntimeError("a bug")) is None


def test_of_a_group_the_first_is_told_and_one_bug_makes_it_a_bug() -> None:
    ours, full = PeerUnreachable("it is away"), OSError(errno.ENOSPC, "full")
    assert explained(ExceptionGroup("tasks", [ExceptionGroup("tasks", [ours]), full])) is ours
    assert explained(ExceptionGroup("tasks", [full, ZeroDivisionError()])) is None


def test_memory_and_threads_are_the_machine_s() -> None:
    for error in (MemoryError(), RuntimeError("can't start new thread")):
        assert isinstance(explained(error), SystemRefused)


def test_what_stands_in_a_name_does_not_speak_to_the_terminal() -> None:
    told = explained(OSError(errno.ENOSPC, "full", b"/a\x1b[2J\xff"))
    assert told is not None
    assert told.message == "cannot use /a\\x1b[2J\\udcff: full"


def test_a_refusal_says_what_was_being_done() -> None:
    with pytest.raises(SystemRefused, match="cannot write it: No space left on device"), refusing("cannot write it"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert refused("cannot write it", OSError("no number")).message == "cannot write it: no number"


# -- in a session


def no_place() -> None:
    with files._temporary_directory(Path("/nowhere")):
        pass


def no_thread() -> None:
    raise RuntimeError("can't start new thread")


def no_descriptor() -> None:
    raise OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (no_place, "cannot make a directory in /nowhere: No such file or directory"),
        (no_thread, "cannot start a thread"),
        (no_descriptor, "the operating system refuses a request: Too many open files"),
    ],
)
def test_a_party_whose_machine_cannot_run_the_program_tells_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], None], sentence: str
) -> None:
    # The first thing that is done to start a program; it fails at the first party that gets there.
    steps, scratch_directory = itertools.chain([fault], itertools.repeat(lambda: None)), files.scratch_directory

    def scratch() -> contextlib.AbstractContextManager[Path]:
        next(steps)()
        return scratch_directory()

    monkeypatch.setattr(launch, "scratch_directory", scratch)

    async def main() -> None:
        program = write_script(tmp_path / "adds.py", "mpc.run(mpc.start())\nmpc.run(mpc.shutdown())")
        async with room(3, listed_plan(program)) as parties:
            parties.start_listed()
            assert sentence in same_sentence(await parties.endings())

    run(main())


# -- through the commands


@needs_mounts
@pytest.mark.parametrize("spoilt", [FULL, WITHOUT_FILES, READ_ONLY], ids=["full", "without inodes", "read-only"])
def test_doctor_diagnoses_a_tmp_that_cannot_be_used(spoilt: str) -> None:
    done = on_machine(f"{spoilt.format('/tmp', 1)}; XDG_RUNTIME_DIR= onionmpc doctor")
    assert done.stderr == ""
    lines = [line for line in done.stdout.splitlines() if line.startswith("fail")]
    assert any("/tmp" in line and ("Read-only" in line or "No space left" in line) for line in lines), done.stdout
    assert done.returncode == 3
    assert "fail  state directory" not in done.stdout


@needs_mounts
@pytest.mark.parametrize("spoilt", [WITHOUT_FILES, READ_ONLY], ids=["without inodes", "read-only"])
def test_an_estimate_without_a_tmp_is_told(spoilt: str) -> None:
    done = on_machine(f"{spoilt.format('/tmp', 1)}; onionmpc estimate sort --parties 3")
    check_told(done, "cannot make a directory in /tmp: ")


@needs_mounts
@pytest.mark.parametrize("files", [1, 2, 3], ids=["no folder", "no lock", "no key"])
def test_an_identity_without_room_is_told_and_leaves_no_half_a_key(files: int) -> None:
    done = on_machine(
        f"mkdir -m 700 /mnt/state && {WITHOUT_FILES.format('/mnt/state', files)}; onionmpc id new me; "
        "code=$?; ls -A /mnt/state/identities/ 2>/dev/null; exit $code"
    )
    check_told(done, "cannot ")
    assert ": No space left on device\n" in done.stderr
    assert "me" not in done.stdout


@needs_mounts
@pytest.mark.parametrize("spoilt", [FULL, READ_ONLY], ids=["full", "read-only"])
def test_an_identity_on_a_disk_that_takes_none_is_told(spoilt: str) -> None:
    done = on_machine(f"mkdir -m 700 /mnt/state && {spoilt.format('/mnt/state')}; onionmpc id new me")
    check_told(done, "cannot ")


@needs_mounts
@pytest.mark.parametrize(
    ("spoilt", "code"), [(FULL, 2), (WITHOUT_FILES, 2), (READ_ONLY, 2)], ids=["full", "without inodes", "read-only"]
)
def test_a_network_in_a_place_without_room_is_told(spoilt: str, code: int) -> None:
    done = on_machine(f"mkdir /mnt/net && {spoilt.format('/mnt/net', 1)}; onionmpc testnet up /mnt/net")
    check_told(done, "cannot ", code)


@needs_mounts
def test_of_a_network_that_could_not_even_say_why_it_ended_that_is_told() -> None:
    done = on_machine(f"mkdir /mnt/net && {FULL.format('/mnt/net')}; onionmpc testnet up --detach /mnt/net")
    check_told(done, "the network's owner ended with exit code 2", 3)
    assert "disk is full" in done.stderr


@needs_mounts
@pytest.mark.parametrize("files", [20, 80])
def test_authorities_without_room_for_their_keys_are_no_bug(files: int) -> None:
    done = on_machine(f"mkdir /mnt/net && {WITHOUT_FILES.format('/mnt/net', files)}; onionmpc testnet up /mnt/net")
    check_told(done, "", done.returncode)
    assert done.returncode in (2, 3)


def test_a_folder_that_was_removed_under_us_is_told() -> None:
    gone = "d=$(mktemp -d) && cd $d && rmdir $d; "
    check_told(in_shell(f"{gone}onionmpc testnet up net"), "the current folder was removed")
    assert in_shell(f"{gone}onionmpc programs").returncode == 0
    assert in_shell(f"{gone}onionmpc estimate average-salary --parties 3").returncode == 0


# From the fewest with which Python gets to our first line, up to what suffices.
@pytest.mark.parametrize("descriptors", [5, 8, 16])
def test_too_few_descriptors_are_told(descriptors: int) -> None:
    done = in_shell(f"ulimit -n {descriptors}; onionmpc estimate sort --parties 3")
    check_told(done, "cannot start")
    assert "Too many open files\n" in done.stderr
    assert "ulimit -n" in done.stderr
    assert "never awaited" not in done.stderr


def test_a_file_without_an_end_is_not_read_to_its_end() -> None:
    check_told(in_shell("ulimit -v 4000000; onionmpc demo --stdin /dev/zero"), "--stdin FILE has more than 64 MiB")
    check_told(in_shell("ulimit -v 4000000; onionmpc verify /dev/zero"), "/dev/zero: it has more than ")
    for word in (
        "estimate /dev/zero --parties 3",
        "estimate sort --parties 3 --with /dev/zero",
        "id import me /dev/zero",
    ):
        done = in_shell(f"ulimit -v 4000000; onionmpc {word}")
        check_told(done, "", 2)


@pytest.mark.parametrize("kilobytes", [30_000, 40_000, 60_000, 80_000])
def test_too_little_memory_is_told(kilobytes: int) -> None:
    done = in_shell(f"ulimit -v {kilobytes}; onionmpc estimate sort --parties 3")
    assert "Traceback (most recent call last)" not in done.stderr.partition("it said")[0], done.stderr
    assert "onionmpc: error: " in done.stderr
    assert done.returncode in (1, 2), done.stderr


@needs_mounts
def test_a_machine_without_devices_is_told_and_given_none() -> None:
    done = on_machine(
        "mount -t tmpfs none /dev; exec 3>&-; onionmpc programs >&-; onionmpc estimate sort --parties 3; "
        "code=$?; ls /dev; exit $code"
    )
    check_told(done, "cannot start the program process: No such file or directory (/dev/null)")
    assert done.stdout == ""


def test_a_limit_on_the_size_of_files_is_told(tmp_path: Path) -> None:
    done = in_shell("ulimit -f 0; onionmpc id new me", ONIONMPC_STATE=f"{tmp_path}/state")
    check_told(done, "cannot write ")
    assert "ulimit -f" in done.stderr
