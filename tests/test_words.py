"""The list of sentences that users see is whole."""

from __future__ import annotations

from pathlib import Path

from tests.words import Sentence, sentences

SOURCE = '''
"""No sentence of users."""
import click


class Thing:
    """Nor is this one."""


@click.command()
@click.option("--parties", help="How many take part.")
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
        Sentence("help", "How many take part.", "cli/module.py:11"),
        Sentence("help", "Gather parties.", "cli/module.py:13"),
        Sentence("error", "{parties} parties, expected 2", "cli/module.py:15"),
        Sentence("hint", "take one more", "cli/module.py:15"),
        Sentence("text", "and so on", "cli/module.py:16"),
        Sentence("text", "and on", "cli/module.py:16"),
        Sentence("text", "no more", "cli/module.py:16"),
    ]


def test_below_the_command_line_only_errors_hints_and_help_count(tmp_path: Path) -> None:
    (tmp_path / "wire").mkdir()
    (tmp_path / "wire" / "module.py").write_text(SOURCE)
    assert [sentence.kind for sentence in sentences(tmp_path)] == ["help", "error", "hint"]
