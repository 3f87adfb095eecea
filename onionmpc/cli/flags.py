"""Says on the command line what errors say in the words of the Python API: `wait_s=` becomes --wait.

The layers below know one name for each option, the API's: a Python program and the command line both show their errors.
"""

from __future__ import annotations

import re

# Options whose name is not that of the API with dashes.
_OTHER_NAMES = {"mpyc_options": "mpyc", "allowed_types": "allow-type", "with_files": "with"}
_PHRASES = (
    (re.compile(r'\binputs=\{"([a-z0-9_-]+)": \.\.\.\}'), r"--input \1=@FILE"),
    (re.compile(r"\bconfirm=onionmpc\.ALLOW_UNUSUAL\b"), "--allow-unusual"),
    (re.compile(r'\bpublic=\["([^"]*)"\]'), r"--public=\1"),
    (re.compile(r'\bmpyc_options=\["([^"]*)"\]'), r"--mpyc=\1"),
)
# Not what follows a dash, or a name with a dot: those are no options of the API.
_OPTION = re.compile(
    r"(?<![-\w.])(threshold|public|mpyc_options|allowed_types|padding|circuits|receipt|with_files|allow_no_privacy|"
    r"allow_subprocess|wait_s|patience_s|min_circuit_length|parties|expect|circuit_length|or_standard|show_my_ip|"
    r"testnet|region|control|listen|change_foreign_tor|profile|bridge|bootstrap_timeout_s|publish_timeout_s)"
    r"=(?:True\b|'([\w.]+)'|(\w+))?"
)


def in_flags(text: str) -> str:
    """Return an error's message or hint with the options of the command line in place of those of the API."""
    for pattern, flag in _PHRASES:
        text = pattern.sub(flag, text)
    return _OPTION.sub(_flag, text)


def _flag(found: re.Match[str]) -> str:
    name, value = found[1], found[2] or found[3]
    flag = "--" + _OTHER_NAMES.get(name, name.removesuffix("_s").replace("_", "-"))
    return f"{flag} {value}" if value else flag
