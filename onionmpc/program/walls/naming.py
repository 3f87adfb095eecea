"""Paths that never appear in a hint, even if the user named them: names that suggest keys or state.

Knows names alone: paths come in as text, resolved or not, and nothing is looked up. A hint that names a path invites
its reader to open that path to a program, which may be hostile; so this errs on the side of silence. Rules:
docs/THREATS.md.
"""

from __future__ import annotations

import re

# The kernel's, the system's and tor's. /etc: what libraries look for there is their own business.
NEVER_NAMED = ("proc", "sys", "dev", "run", "boot", "etc")
KEY_SUFFIXES = (
    *(".key", ".pem", ".p12", ".pfx", ".pk8", ".jks", ".keystore", ".ppk", ".kdb", ".kdbx", ".asc", ".gpg", ".pgp"),
    *(".age", ".ovpn", ".wallet", ".keytab"),
)
KEY_WORDS = re.compile(
    r"(secret|private|priv|api|ssh|gpg)[-_ .]?keys?(?![a-z])|id_(rsa|dsa|ecdsa|ed25519)|"
    r"passw|passphrase|credential|keystore|key(ring|chain)|wallet|mnemonic|auth_?cookie|auth_private"
)
TORS = re.compile(r"tor([-_ .].*)?|torbrowser.*|tor ?browser.*|torrc.*|onion-?auth|hidden_?service.*")
OURS = re.compile(r"onionmpc\.[a-z0-9_]{8}|onionmpc-demo-.*")
NOISE = ("__pycache__",)  # Python's own attempts, at each import


def has_private_name(path: str) -> bool:
    """Tell whether an absolute path has a dot-file, a key or a place of tor's, ours or the system's in it."""
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    return parts[:1] == [] or parts[0] in NEVER_NAMED or any(map(is_private_part, parts))


def is_private_part(name: str) -> bool:
    """Tell whether one part of a path says so."""
    low = name.lower()
    return name.startswith(".") or name in NOISE or is_key(low) or any(kind.fullmatch(low) for kind in (TORS, OURS))


def is_key(name: str) -> bool:
    """Tell whether a file of this name most likely holds a key or a password."""
    low = name.lower()
    return low.endswith(KEY_SUFFIXES) or KEY_WORDS.search(low) is not None
