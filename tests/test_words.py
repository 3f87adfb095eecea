"""The list of sentences that users see is whole."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.words import CONSTANTS, FUNCTIONS, PACKAGE, SENTENCE, SHOWN, Sentence, sentences

SOURCE = '''
"""No sentence of users."""
import click


class Thing:
    """Nor is this one."""


@click.command()
@click.option("--parties", help="Number of parties.")
def host(parties: int) -> None:
    """Gather parties."""
    if parties < 2:
        raise UsageError(f"{parties} parties, expected 2", hint="take one more")
    click.echo("and so on" + (" and on" if parties else "no more"))
'''


def test_each_sentence_is_found_once_with_its_kind_and_place(tmp_path: Path) -> None:
    (tmp_path / "cli").mkdir()
    (tmp_path / "cli" / "module.py").write_text(SOURCE)
    assert list(sentences(tmp_path)) == [
        Sentence("help", "Number of parties.", "cli/module.py:11"),
        Sentence("help", "Gather parties.", "cli/module.py:13"),
        Sentence("error", "{parties} parties, expected 2", "cli/module.py:15"),
        Sentence("hint", "take one more", "cli/module.py:15"),
        Sentence("text", "and so on", "cli/module.py:16"),
        Sentence("text", "and on", "cli/module.py:16"),
        Sentence("text", "no more", "cli/module.py:16"),
    ]


def test_constants_and_functions_that_hold_hints_count(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(
        'PASTE_HINT = "paste it again"\nOTHER = "not this"\n\n\ndef hint() -> str:\n    return "look here"\n'
    )
    assert [(sentence.kind, sentence.words) for sentence in sentences(tmp_path)] == [
        ("hint", "paste it again"),
        ("hint", "look here"),
    ]


def test_below_the_command_line_only_errors_hints_and_help_count(tmp_path: Path) -> None:
    (tmp_path / "wire").mkdir()
    (tmp_path / "wire" / "module.py").write_text(SOURCE)
    assert [sentence.kind for sentence in sentences(tmp_path)] == ["help", "error", "hint"]


def test_each_place_where_sentences_are_looked_for_has_some() -> None:
    texts = [sentence.place for sentence in sentences() if sentence.kind == "text"]
    assert [place for place in SHOWN if not any(text.startswith(place) for text in texts)] == []
    nodes = [node for path in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))]
    constants = {
        target.id
        for node in nodes
        if isinstance(node, ast.Assign) and SENTENCE.search(ast.unparse(node.value))
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert [end for end in CONSTANTS if not any(name.endswith(end) for name in constants)] == []
    functions = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    assert [word for word in FUNCTIONS if not any(word in name for name in functions)] == []


# Issue 13. Turns that a colleague would not say, and what to write for them. No sentence and no page has these.
TURNS = {
    r"\bbe it\b": "whether, even",
    r"\bheed(s|ed)?\b": "read, follow, obey",
    r"\b(is|are|was|were|be|been) told\b": "notify, report",
    r"\bmend(s|ed)?\b": "fix",
    r"\bwhoever\b|\bwhatever\b|\bthose who\b": "anyone who, the person who, no matter what; or name the subject",
    r"\bhowever (long|many|much|often|it|they)\b": "no matter how, even if",
    r"\bfor ever\b": "permanently",
    r"\b(some|any|every)body\b": "someone, anyone, everyone",
    r"\ban? \w+ of (its|his|their|our|your|\w+'s) own\b": "its own",
    r"\banew\b|\bmeanwhile\b|\blest\b|\bunasked\b|\bsave for\b": "again, for now, without asking, except",
    r"\bend(s|ed)? well\b": "succeed",
    r"\bcomes? along\b|\bgo(es)? along\b": "comes with",
    r"\bby another way\b": "over another channel",
    r"\bin vain\b": "without success; or say what failed",
    r"\b(its|their|whose) persons?\b": "user",
    r"\bno such \w+ as\b|\bas of now\b": "no, now",
    r"\bfor so long\b|\bsome \d": "for this long, about",
    r"\bmost often\b": "usually",
    r"\bin good order\b": "properly",
    r"\b(brings?|brought) (any|some|no)thing\b": "deliver",
    r"\bthat wish\b|\bthe like\b|\bas a rule\b": "usually; say it in other words",
}
# No sentence has these. On a page, where there is room for more, some of them are right at times.
SENTENCE_TURNS = {
    r"\bstand(s|ing)?\b": "is",
    r"(?:^|[.:;] )who\b": "anyone who, the person who; or name the subject",
    r"\bgo(es)? on\b": "continue",
    r"\bone of \w+ that\b": "a, an",
    r"\bnone that\b|\b(?<!there )(is|are) no (?!longer )\w+|\bis none\b": "unknown, not a",
    r"\bthere (is|are) (nobody|those)\b": "make the person the subject",
    r"\bof (yours|ours|theirs)\b": "that you own, your",
    r"\b(is|are) to (be|have)\b": "must, should, or the verb itself",
}
# Decisions and the changelog are history.
PAGES = [page for page in (PACKAGE.parent / "docs").rglob("*.md") if "decisions" not in page.parts]


@pytest.fixture(scope="module")
def all_sentences() -> list[Sentence]:
    return list(sentences())


@pytest.mark.parametrize(("turn", "better"), (TURNS | SENTENCE_TURNS).items())
def test_no_sentence_has_a_turn_that_nobody_would_say(turn: str, better: str, all_sentences: list[Sentence]) -> None:
    found = [f"{each.place}: {each.words}" for each in all_sentences if re.search(turn, each.words, re.I)]
    assert not found, f"write instead: {better}"


@pytest.mark.parametrize(("turn", "better"), TURNS.items())
def test_no_page_has_a_turn_that_nobody_would_say(turn: str, better: str) -> None:
    lines = [(page.name, line) for page in PAGES for line in page.read_text().splitlines()]
    found = [f"{name}: {line}" for name, line in lines if re.search(turn, line, re.I)]
    assert not found, f"write instead: {better}"


def test_an_error_and_a_hint_start_in_lower_case_and_end_without_a_full_stop(all_sentences: list[Sentence]) -> None:
    for sentence in all_sentences:
        if sentence.kind in ("error", "hint"):
            # Names (Tor, IKpsk1) and filled-in words may be first.
            assert not re.match(r"(A|An|The|This|It|No|There|Use|Give|Choose)\b", sentence.words), sentence
            assert not re.search(r"\w\.$", sentence.words), sentence
