"""The page as files: its parts fit together, and both of its languages are complete."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from onionmpc import app
from onionmpc.app import reduce, state, views
from onionmpc.app.assets import read_assets

PAGE = Path(app.__file__).parent / "page"
TEXTS = {language: json.loads((PAGE / f"texts-{language}.json").read_text()) for language in ("en", "de")}
KEY = re.compile(r'\bt\(\s*"([^"]+)"')
CHOSEN = re.compile(r'\bt\(\s*[^"`]*?\?\s*"([^"]+)"\s*:\s*"([^"]+)"')
BUILT = re.compile(r"\bt\(`([a-z]+\.)\$\{")
FORMS = (".one", ".other")
ENUMS = {"tor.": state.TorStep, "presence.": state.Presence}
STANDINGS = {"standing.known", "standing.vouched", "standing.introduced", "standing.invited", "standing.stranger"}


def used() -> set[str]:
    """Every key that the page or the state names."""
    keys = set(STANDINGS)
    for file in PAGE.glob("*.js"):
        text = file.read_text()
        keys |= set(KEY.findall(text)) | {key for pair in CHOSEN.findall(text) for key in pair}
        for prefix in BUILT.findall(text):
            keys |= {f"{prefix}{member.value}" for member in ENUMS.get(prefix, ())}
    for module in (reduce, views):
        assert module.__file__ is not None
        keys |= set(re.findall(r'"((?:note|consent)\.[a-z.]+)"', Path(module.__file__).read_text()))
    return keys


def without_form(key: str) -> str:
    return next((key.removesuffix(form) for form in FORMS if key.endswith(form)), key)


@pytest.mark.parametrize("language", TEXTS)
def test_a_catalogue_has_each_key_that_is_used_and_no_other(language: str) -> None:
    assert {without_form(key) for key in TEXTS[language]} == used()


def test_both_languages_have_the_same_keys_and_the_same_values_in_each_text() -> None:
    english, german = TEXTS["en"], TEXTS["de"]
    assert list(english) == list(german) == sorted(english)
    for key, text in english.items():
        assert set(re.findall(r"\{(\w+)\}", text)) == set(re.findall(r"\{(\w+)\}", german[key])), key


@pytest.mark.parametrize("language", TEXTS)
def test_a_text_holds_no_markup(language: str) -> None:
    assert not [text for text in TEXTS[language].values() if re.search(r"[<>&]", text)]


def test_the_page_makes_no_markup_from_text_and_loads_nothing_from_elsewhere() -> None:
    for file in PAGE.iterdir():
        text = file.read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), file
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), file


def test_each_part_that_the_page_names_is_there() -> None:
    assets = read_assets(PAGE)
    named = set(re.findall(r'"/page/([^"]+)"', (PAGE / "index.html").read_text()))
    for file in PAGE.glob("*.js"):
        named |= set(re.findall(r'from "\./([^"]+)"', file.read_text()))
    assert named <= set(assets)
    assert set(assets) - named == {"index.html", "texts-de.json", "texts-en.json"}
