"""Each shipped program computes the same as plain Python, and refuses bad input with a sentence."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onionmpc.api.tryout import try_out
from onionmpc.program.code.catalogue import catalogue
from tests.support.examples import DEADLINE_S, EXAMPLES, read_input, run_alone, run_parties

each_number_of_parties = pytest.mark.parametrize("parties", [1, 2, 3])


@each_number_of_parties
def test_average_salary(tmp_path: Path, parties: int) -> None:
    salaries = [3900, 4100, 4660][:parties]
    printed = run_parties(tmp_path, "average_salary", read_input(), [f"{salary}\n" for salary in salaries])
    expected = round(sum(salaries) / parties)
    assert printed == [f"average salary of {parties} parties: {expected}\n"] * parties


@each_number_of_parties
def test_millionaires(tmp_path: Path, parties: int) -> None:
    amounts = [10**12, 0, 10**12][:parties]
    printed = run_parties(tmp_path, "millionaires", read_input(), [str(amount) for amount in amounts])
    richest = [f"party {number}" for number, amount in enumerate(amounts) if amount == max(amounts)]
    assert printed == [f"richest: {', '.join(richest)}\n"] * parties


@each_number_of_parties
def test_vote(tmp_path: Path, parties: int) -> None:
    votes = ["no", "abstain", "no"][:parties]
    printed = run_parties(tmp_path, "vote", read_input("yes,no,abstain"), votes)
    totals = [f"{candidate}: {votes.count(candidate)}\n" for candidate in ("yes", "no", "abstain")]
    assert printed == ["".join(totals) + "invalid: 0\n"] * parties


@each_number_of_parties
def test_auction(tmp_path: Path, parties: int) -> None:
    bids = [5, 10**9, 999][:parties]
    printed = run_parties(tmp_path, "auction", read_input(), [str(bid) for bid in bids])
    price = sorted([0, *bids])[-2]
    assert printed == [f"winner: party {bids.index(max(bids))}, price: {price}\n"] * parties


def test_of_equal_bids_the_lowest_party_wins_at_that_price(tmp_path: Path) -> None:
    assert run_parties(tmp_path, "auction", read_input(), ["1", "7", "7"])[0] == "winner: party 1, price: 7\n"


@pytest.mark.parametrize("parties", [2, 3])
def test_secret_santa(tmp_path: Path, parties: int) -> None:
    printed = run_parties(tmp_path, "secret_santa", [], [""] * parties)
    drawn = []
    for number, line in enumerate(printed):
        before, _, receiver = line.strip().rpartition(" party ")
        assert before == f"party {number} gives a present to"
        drawn.append(int(receiver))
    assert sorted(drawn) == list(range(parties))
    assert all(receiver != number for number, receiver in enumerate(drawn))


@each_number_of_parties
def test_sort(tmp_path: Path, parties: int) -> None:
    numbers = [[3, -(10**9), 5], [10**9], [0, 3]][:parties]
    printed = run_parties(tmp_path, "sort", read_input(), [" ".join(map(str, mine)) for mine in numbers])
    in_order = sorted(itertools.chain(*numbers))
    assert printed == [f"{len(in_order)} numbers in order: {' '.join(map(str, in_order))}\n"] * parties


def test_sort_of_made_up_numbers_is_the_same_for_any_number_of_parties(tmp_path: Path) -> None:
    alone = run_parties(tmp_path, "sort", ["--count", "7"], [""])
    assert alone[0].startswith("7 numbers in order: ")
    assert run_parties(tmp_path, "sort", ["--count", "7"], ["", "", ""]) == alone * 3


@each_number_of_parties
def test_regression(tmp_path: Path, parties: int) -> None:
    rows = [[[1, 2, 3], [4, 6, -5], [7, 8, 10_000], [0, 1, 1]], [[5, 5, 5]], [[-1, 0, 2], [2, -10_000, 9]]][:parties]
    texts = ["\n".join(",".join(map(str, row)) for row in mine) for mine in rows]
    printed = run_parties(tmp_path, "regression", read_input("--columns", "2"), texts)
    table = np.array([*itertools.chain(*rows)], dtype=float)
    explaining = np.hstack([np.ones((len(table), 1)), table[:, :-1]])
    (a, b, c), *_ = np.linalg.lstsq(explaining, table[:, -1])
    assert printed == [f"{len(table)} rows: y = {a:+.4f} {b:+.4f} x1 {c:+.4f} x2\n"] * parties


def test_regression_of_made_up_rows_is_repeatable(tmp_path: Path) -> None:
    one, two, _ = run_parties(tmp_path, "regression", ["--rows", "50"], ["", "", ""])
    assert one.startswith("150 rows: y = ")
    assert one == two == run_parties(tmp_path, "regression", ["--rows", "50"], ["", "", ""])[0]


def test_a_forged_vote_is_not_counted() -> None:
    script = f"""
import sys
sys.path[0] = {str(EXAMPLES)!r}
from vote import PRIME, mpc, one_if_valid
field = mpc.SecFld(modulus=PRIME)
valid = [1, 0, 0], [0, 1, 0], [0, 0, 1]
# The last one sums to 1 modulo the prime, and so do its squares: looking at sums alone would accept it.
forged = [0, 0, 0], [1, 1, 0], [2, 0, 0], [-1, 0, 0], [1, 1, -1], [2, -1, 0], [128, 130, 0], [172, 172, 171]
assert sum(forged[-1]) % PRIME == sum(n * n for n in forged[-1]) % PRIME == 1
for vote in valid + forged:
    counted = mpc.run(mpc.output(one_if_valid([field(n) for n in vote])))
    assert counted == (vote in valid), (vote, counted)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, "--no-log"], capture_output=True, text=True, check=False, timeout=DEADLINE_S
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", [name for name, _ in catalogue() if name not in {"secret_santa", "private_inference"}])
def test_each_program_runs_unattended_with_demo(name: str) -> None:
    public = try_out(name, (), (), {}).public
    first, second = (run_alone(name, *public, "--demo") for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout
    assert first.stdout == second.stdout


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("average_salary", ["12a4"], "the salary must be one whole number"),
        ("average_salary", ["1 2"], "the salary must be one whole number"),
        ("average_salary", ["--", "-1"], "the salary must be from 0 to 1000000000"),
        ("average_salary", [], "no salary given: use --input FILE, or --demo to try this program out"),
        ("average_salary", ["--input", "-"], "the salary must be one whole number"),
        ("average_salary", ["--input", "/absent"], "cannot read your salary from /absent: No such file or directory"),
        (
            "average_salary",
            ["--input", sys.executable],
            f"cannot read your salary from {sys.executable}: it is not text",
        ),
        ("millionaires", ["1000000000001"], "the amount must be from 0 to 1000000000000"),
        ("auction", ["9" * 5000], "the bid must be one whole number"),
        ("vote", ["yes,no", "maybe"], "the vote must be for one of: yes, no"),
        ("vote", ["yes", "yes"], "expected 2 to 100 different candidates, separated by commas"),
        ("vote", ["yes,yes", "yes"], "expected 2 to 100 different candidates, separated by commas"),
        ("sort", ["1", "x"], "the numbers must be whole numbers"),
        ("sort", ["1000000001"], "the numbers must be from -1000000000 to 1000000000"),
        ("sort", ["--count", "0"], "--count must be from 1 (one for each party) to 10000"),
        ("regression", ["--columns", "9"], "--columns must be from 1 to 8, --rows from 1 to 10000"),
        ("regression", ["1 2; 3"], "expected 1 to 10000 rows of 4 numbers (--columns 3, and the one to explain)"),
        (
            "regression",
            ["--columns", "1", "1 2; 1 2"],
            "the rows of all parties together do not determine the coefficients",
        ),
        ("secret_santa", [], "secret_santa needs at least two parties"),
        ("kaplan_meier", ["a,a", "a,1,1"], "expected 1 to 10 different groups, separated by commas"),
        ("kaplan_meier", ["a,b", "a,1,1;c,2,1"], "line 2 of the patients must have a group (a, b), a time, and 0 or 1"),
        (
            "kaplan_meier",
            ["a,b", "a,-1,1"],
            "the time in line 1 of the patients must be a whole number from 0 to 100000",
        ),
        (
            "kaplan_meier",
            ["--width", "9", "--horizon", "8", "a,b", "a,1,1"],
            "expected --width up to --horizon, --horizon up to 100000, and at most 1000 intervals",
        ),
        ("logistic_regression", ["--columns", "1", "1 2"], "the last number of a row must be 0 or 1"),
        ("logistic_regression", ["--columns", "1", "nan 1"], "the numbers of a row must be from -1000 to 1000"),
        ("logistic_regression", ["--columns", "1", "x 1"], "the rows must have numbers only"),
        (
            "logistic_regression",
            ["--columns", "1", "1 1 1"],
            "expected 1 to 100000 rows of 2 numbers (--columns 1, and then 0 or 1)",
        ),
        (
            "private_inference",
            ["1 2"],
            "private_inference needs at least two parties: party 0 has the model, the others have rows",
        ),
        (
            "rank_vote",
            ["a,b>c", "a"],
            "the name of a candidate must not have a >, which separates the candidates of a ranking",
        ),
        ("rank_vote", ["a,b,c,d,e,f,g,h,i", "a"], "expected 2 to 8 different candidates, separated by commas"),
        (
            "rank_vote",
            ["a,b", "a > x"],
            "the ranking must name some of these, the best first, with > between them: a, b",
        ),
        ("rank_vote", ["a,b", "a > b > a"], "the ranking must name each candidate at most once"),
        ("match", [", Bob"], "the first of the names must be your own, with 1 to 50 printable characters"),
        ("match", ["An\x1bn, Bob"], "the first of the names must be your own, with 1 to 50 printable characters"),
        ("set_overlap", ["--pad-to", "1", "a\nb"], "the list must have 1 to 1 different entries, one on each line"),
        ("set_overlap", ["--pad-to", "2001", "a"], "--pad-to must be from 1 to 2000"),
        (
            "survey",
            ["q:1-", "q\n1"],
            "expected different questions with their lowest and highest answers, such as satisfaction:1-5,hours:0-59",
        ),
        ("survey", ["q:2-1", "q\n1"], "a question must have 1 to 1000 different answers"),
        ("survey", ["q:1-5", "r\n1"], "the first line of the table must name each of these columns once: q"),
        ("survey", ["q:1-5", "q\n1\n6"], "q in line 3 of the table must be a whole number from 1 to 5, or empty"),
        ("survey", ["q:1-5", "q\n1,2"], "line 2 of the table has 2 cells, expected 1"),
        ("survey", ["--by", "t:a/b", "q:1-5", "q,t\n1,c"], "t in line 2 of the table must be one of: a, b"),
        ("survey", ["--smallest", "1", "q:1-5", "q\n1"], "--smallest must be from 2 to 100000, --bins from 1 to 100"),
    ],
)
def test_bad_input_ends_with_a_sentence(name: str, arguments: list[str], sentence: str) -> None:
    done = run_alone(name, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", sentence + "\n")


def test_a_typed_input_is_not_shown() -> None:
    script = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) != 0)"  # the script gets its own terminal
    command = [sys.executable, "-c", script, sys.executable, str(EXAMPLES / "average_salary.py"), "--no-log"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as terminal:
        assert terminal.stdin
        assert terminal.stdout
        shown = b""
        while not shown.endswith(b"not shown): ") and (byte := terminal.stdout.read(1)):
            shown += byte
        terminal.stdin.write(b"4242\n")
        terminal.stdin.flush()
        after = terminal.communicate(timeout=DEADLINE_S)[0]
    assert terminal.returncode == 0
    assert shown == b"party 0, your salary (not shown): "
    assert after.split() == b"average salary of 1 parties: 4242".split()
