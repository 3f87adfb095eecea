"""Lines on stderr start at the left margin, and a reader that goes away ends no session."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from onionmpc.cli.output import StatusLine

DEADLINE_S = 60.0
WIDTH = 30


def screen(written: str) -> list[str]:
    """Return what a terminal shows of this output. It wraps a line only when more characters follow."""
    rows, column = [""], 0
    for character in written:
        if character == "\r":
            column = 0
        elif character == "\n":
            rows.append("")
        else:
            if column == WIDTH:
                rows.append("")
                column = 0
            rows[-1] = rows[-1][:column].ljust(column) + character + rows[-1][column + 1 :]
            column += 1
    return [row.rstrip() for row in rows]


def told(words: str, *, lent: bool, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what a terminal shows after a program has written this text, and then we a line."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    out = io.StringIO(words)
    out.seek(0, os.SEEK_END)
    status = StatusLine()
    status._console.file = out
    status._console._force_terminal = True
    status._console._color_system = None
    status.lent = lent
    status.line("ours")
    return [row if not row.endswith("ours") else "ours" for row in screen(out.getvalue().replace("\n", "\r\n"))]


# Issue 12.
@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("", ["ours"]),
        ("a result\n", ["a result", "ours"]),
        ("a result", ["a result", "ours"]),
        ("x" * (WIDTH - 1), ["x" * (WIDTH - 1), "ours"]),
        ("x" * WIDTH, ["x" * WIDTH, "ours"]),
        ("x" * (WIDTH + 1), ["x" * WIDTH, "x", "ours"]),
        ("10 %\r20 %", ["20 %", "ours"]),
    ],
)
def test_a_last_line_without_a_line_end_does_not_run_into_ours(
    words: str, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [row for row in told(words, lent=True, monkeypatch=monkeypatch) if row] == shown


def test_nothing_is_added_while_no_program_has_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told("a question? ", lent=False, monkeypatch=monkeypatch)[0] == "ours"


GONE = """
import sys
from onionmpc.cli.output import StatusLine
from onionmpc.cli.streams import prepare_streams
prepare_streams()
status = StatusLine()
status.line("a line")
status.text("the agreement")
status.going_on("and more")
status.lent = True
status.end_line()
print("went on")
"""


# Issue 12. It ended the session of all.
@pytest.mark.parametrize("place", ["a pipe", "/dev/full"])
def test_a_session_continues_when_nobody_reads_its_messages(place: str) -> None:
    if place == "a pipe":
        near, far = os.pipe()
        os.close(near)
    else:
        far = os.open(place, os.O_WRONLY)
    try:
        done = subprocess.run(
            [sys.executable, "-c", GONE],
            stdout=subprocess.PIPE,
            stderr=far,
            timeout=DEADLINE_S,
            check=False,
        )
    finally:
        os.close(far)
    assert done.stdout == (b"went on\n")


def test_a_file_that_we_open_does_not_replace_a_closed_standard_stream() -> None:
    near, far = os.pipe()
    script = f"""if True:
        import os
        from onionmpc.cli import main as module
        def run(_):
            os.write({far}, b" ".join(os.readlink(f"/proc/self/fd/{{n}}").encode() for n in range(3)))
            return 0
        module.run = run
        module.main([])
    """
    command = f'exec {sys.executable} -c "$0" <&- >&- 2>&-'
    subprocess.run(["sh", "-c", command, script], pass_fds=[far], timeout=DEADLINE_S, check=False)
    os.close(far)
    with os.fdopen(near) as read:
        assert read.read() == "/dev/null /dev/null /dev/null"
