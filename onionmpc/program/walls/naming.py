"""Recognises paths that a hint must never name: those whose names suggest keys or private state.

Knows only names: paths come in as text, resolved or not, and nothing is looked up. A hint that names a path invites the
user to give it to the program, which may be hostile. So this errs on the side of silence. Rules: docs/THREATS.md.
"""

from __future__ import annotations

import re

# Folders of the kernel and the system. It is libraries that look for files in /etc, and not the script.
NEVER_NAMED = ("proc", "sys", "dev", "run", "boot", "etc")
KEY_SUFFIXES = (
    *(".key", ".pem", ".p12", ".pfx", ".pk8", ".jks", ".keystore", ".ppk", ".kdb", ".kdbx", ".asc", ".gpg", ".pgp"),
    *(".age", ".ovpn", ".wallet", ".keytab"),
)
KEY_WORDS = re.compile(
    r"(secret|private|priv|api|ssh|gpg)[-_ .]?keys?(?![a-z])|id_(rsa|dsa|ecdsa|ed25519)|"
    r"passw|passphrase|credential|keystore|key(ring|chain)|wallet|mnemonic|auth_?cookie|auth_private"
)
TOR_NAMES = re.compile(r"tor([-_ .].*)?|torbrowser.*|tor ?browser.*|torrc.*|onion-?auth|hidden_?service.*")
OUR_NAMES = re.compile(r"onionmpc\.[a-z0-9_]{8}|onionmpc-demo-.*")
NOISE = ("__pycache__",)  # Python itself looks for it at each import


def has_private_name(path: str) -> bool:
    """Return whether an absolute path contains a dot-file, a key, or a folder of tor, of ours or of the system."""
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    return parts[:1] == [] or parts[0] in NEVER_NAMED or any(map(is_private_part, parts))


def is_private_part(name: str) -> bool:
    """Return whether one part of a path is private."""
    low = name.lower()
    of_tor_or_ours = any(names.fullmatch(low) for names in (TOR_NAMES, OUR_NAMES))
    return name.startswith(".") or name in NOISE or is_key(low) or of_tor_or_ours


def is_key(name: str) -> bool:
    """Return whether a file of this name probably contains a key or a password."""
    low = name.lower()
    return low.endswith(KEY_SUFFIXES) or KEY_WORDS.search(low) is not None
