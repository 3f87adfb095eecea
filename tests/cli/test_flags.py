"""What errors say in the words of the Python API, in those of the command line."""

from __future__ import annotations

import inspect

import pytest

import onionmpc
from onionmpc.api.options import SessionOptions
from onionmpc.cli.flags import in_flags
from onionmpc.cli.host_join import host


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("use wait_s= to give the others more time", "use --wait to give the others more time"),
        ("add allow_no_privacy=True", "add --allow-no-privacy"),
        ("use parties=4 to give each a seat", "use --parties 4 to give each a seat"),
        ("leave out circuits=, or padding=", "leave out --circuits, or --padding"),
        ("use circuit_length='short', or another", "use --circuit-length short, or another"),
        ('pass public=["--rows=..."], a number', "pass --public=--rows=..., a number"),
        ('pass it in mpyc_options=["-L64"]', "pass it in --mpyc=-L64"),
        ('pass inputs={"salary": ...}; it is', "pass --input salary=@FILE; it is"),
        ("pass confirm=onionmpc.ALLOW_UNUSUAL", "pass --allow-unusual"),
        ("--mpyc=-L64 and min-parties = 3, table.parties=3", "--mpyc=-L64 and min-parties = 3, table.parties=3"),
    ],
)
def test_an_option_of_the_api_is_named_as_on_the_command_line(text: str, expected: str) -> None:
    assert in_flags(text) == expected


def test_each_option_that_both_have_is_named_as_the_command_line_has_it() -> None:
    flags = {name for option in host.params for name in option.opts}
    names = {*SessionOptions.__annotations__, *inspect.signature(onionmpc.party).parameters, "parties", "expect"}
    names -= {"identity", "passphrase", "on_event", "verbose", "trust"}  # no error names these
    assert {in_flags(f"{name}=") for name in names} <= flags
