"""Says on the command line what errors say in the words of the Python API: `wait_s=` becomes --wait.

The layers below know one name for each option, the API's: a Python program and the command line both show their errors.
"""

from __future__ import annotations

import re

from onionmpc.session.agreed_options import AGREED_OPTIONS

_FLAGS = {option.wish: option.flags[0] for option in AGREED_OPTIONS} | {"with_files": "--with"}
# The others, whose flag is their name with dashes.
_NAMES = (
    *(
        "evidence",
        "strangers_may_read_everything",
        "max_unknown",
        "allow_no_privacy",
        "allow_difference",
        "allow_subprocess",
        "wait_s",
        "patience_s",
        "min_circuit_length",
        "parties",
        "expect",
    ),
    *("circuit_length", "or_standard", "show_my_ip", "testnet", "region", "control", "listen", "change_foreign_tor"),
    *("profile", "bridge", "bootstrap_timeout_s", "publish_timeout_s"),
)
_PHRASES = (
    (re.compile(r'\binputs=\{"([a-z0-9_-]+)": \.\.\.\}'), r"--input \1=@FILE"),
    (re.compile(r"\bconfirm=onionmpc\.ALLOW_UNUSUAL\b"), "--allow-unusual"),
    (re.compile(r'\bpublic=\["([^"]*)"\]'), r"--public=\1"),
    (re.compile(r'\bmpyc_options=\["([^"]*)"\]'), r"--mpyc=\1"),
)
# Not what follows a dash, or a name with a dot: those are no options of the API.
_OPTION = re.compile(rf"(?<![-\w.])({'|'.join((*_FLAGS, *_NAMES))})=(?:True\b|'([\w.]+)'|(\w+))?")


def in_flags(text: str) -> str:
    """Return an error's message or hint with the options of the command line in place of those of the API."""
    for pattern, flag in _PHRASES:
        text = pattern.sub(flag, text)
    return _OPTION.sub(_flag, text)


def _flag(found: re.Match[str]) -> str:
    name, value = found[1], found[2] or found[3]
    flag = _FLAGS.get(name) or "--" + name.removesuffix("_s").replace("_", "-")
    return f"{flag} {value}" if value else flag
