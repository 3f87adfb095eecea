"""The blocks of the shipped programs are valid, and what onionmpc passes on by them is what the programs take."""

from __future__ import annotations

import pytest

from onionmpc.program.block_parser import parse_metadata
from tests.program.examples.test_hops import HOPS
from tests.support.examples import EXAMPLES


@pytest.mark.parametrize("name", HOPS)
def test_a_program_that_states_its_hops_has_a_valid_block(name: str) -> None:
    path = EXAMPLES / f"{name}.py"
    metadata = parse_metadata(path.read_text(), path.name)
    assert "mpyc" in metadata.dependencies
    assert metadata.about
    source = path.read_text()
    for field in (*metadata.about.public, *metadata.about.input):
        assert field.option is None or field.option == "--input" or f'"{field.option}"' in source
