"""Lists of SSH keys and of the names that they stand for: the format of ssh-keygen's allowed_signers.

Knows lines, options and dates, and reads them as ssh-keygen does. What ssh-keygen takes and is no name for one person,
such as a pattern or a certificate authority, is refused with the number of the line. Does not verify signatures:
that is onionmpc.names.ssh. Format: docs/reference/evidence.md, and ALLOWED SIGNERS in ssh-keygen(1).
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import starmap

from onionmpc.errors import UsageError

# RSA keys of all sizes are "ssh-rsa"; how they may sign is for onionmpc.names.ssh. The last two are hardware keys.
KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
# Spaces and commas separate. * and ? make a pattern, and ! excludes: neither is the name of anybody.
PRINCIPAL = re.compile(r"[A-Za-z0-9@._+=:/-]{1,64}")
QUOTED = r"""(?:\\"|[^"\\]|\\(?!"))*"""
LINE = re.compile(
    r"""(?P<principals>"[^"]*"|\S+)[ \t]+"""
    rf"""(?:(?P<options>(?!(?:sk-)?(?:ssh|ecdsa)-)(?:"{QUOTED}"|[^\s"])+)[ \t]+)?"""
    r"(?P<type>\S+)[ \t]+(?P<key>[A-Za-z0-9+/=]+)(?:[ \t].*)?"
)
OPTION = re.compile(rf"""(?P<name>[A-Za-z-]+)(?:="(?P<value>{QUOTED})")?(?:,|\Z)""")
DATE_FORMATS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
DIGITS = re.compile(r"(\d{8}|\d{12}|\d{14})(Z|UTC)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Signer:
    """A key, and the name that the user of this list gives to its owner.

    Attributes:
        principal: the name.
        key_type: one of KEY_TYPES.
        key: the public key, in SSH's encoding.
        namespaces: a list of patterns for what the key may sign; empty for anything.
        valid_after: from when the key counts; None for always.
        valid_before: until when.
    """

    principal: str
    key_type: str
    key: bytes
    namespaces: str = ""
    valid_after: datetime | None = None
    valid_before: datetime | None = None

    def may_sign(self, namespace: str) -> bool:
        """Return whether the list allows this key for a namespace."""
        return not self.namespaces or _matches(namespace, self.namespaces)


def parse_allowed_signers(text: str, file: str = "allowed_signers") -> tuple[Signer, ...]:
    """Parse a list of keys. Lines that are empty or start with # are skipped.

    Args:
        file: its path, for errors.

    Raises:
        UsageError: names the first line that is damaged, or that ssh-keygen takes and onionmpc does not.
    """
    signers = list[Signer]()
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.strip(" \t\r")
        if not stripped or stripped.startswith("#"):
            continue
        try:
            signers.append(_parse_line(stripped))
        except ValueError as error:
            raise UsageError(
                f"line {number} of {file} cannot be used: {error}",
                hint="a line is NAME [OPTIONS] KEY, as in: alice@acme.example ssh-ed25519 AAAA...",
            ) from error
    return tuple(signers)


def _parse_line(line: str) -> Signer:
    found = LINE.fullmatch(line)
    if found is None:
        raise ValueError("expected a name, perhaps options, a type of key and a key")
    if found["type"] not in KEY_TYPES:
        raise ValueError(f"expected a key of one of the types {', '.join(KEY_TYPES)}")
    options = _options(found["options"] or "")
    after, before = (_moment(options[name]) if name in options else None for name in ("valid-after", "valid-before"))
    if after is not None and before is not None and after >= before:
        raise ValueError("valid-after is not earlier than valid-before")
    key = _key(found["type"], found["key"])
    return Signer(_principal(found["principals"]), found["type"], key, options.get("namespaces", ""), after, before)


def _principal(field: str) -> str:
    # More names than one are more addresses of one person, as git has them. The first is the name.
    principals = field.strip('"').split(",")
    for principal in principals:
        if not PRINCIPAL.fullmatch(principal):
            raise ValueError(
                "the name is empty, longer than 64 characters, or has other characters than letters, digits and "
                "@ . _ + = : / - (a pattern names nobody)"
            )
    return principals[0]


def _options(field: str) -> dict[str, str]:
    options, place = dict[str, str](), 0
    while place < len(field):
        found = OPTION.match(field, place)
        if found is None:
            raise ValueError("the options are damaged")
        name, place = found["name"].lower(), found.end()
        if name == "cert-authority":
            raise ValueError("a certificate authority (cert-authority) could give any key any name: list keys instead")
        if name not in ("namespaces", "valid-after", "valid-before"):
            raise ValueError("an option is not one of namespaces, valid-after and valid-before")
        if not found["value"] or name in options:
            raise ValueError(f"the option {name} has no value, or is there twice")
        options[name] = found["value"].replace('\\"', '"')
    return options


def _moment(text: str) -> datetime:
    """Parse a date as ssh-keygen has it: YYYYMMDD[HHMM[SS]][Z], in this machine's time zone without Z."""
    found = DIGITS.fullmatch(text)
    if found is None:
        raise ValueError("expected a date such as 20261231 or 202612312359Z")
    moment = datetime.strptime(found[1], DATE_FORMATS[len(found[1])])  # noqa: DTZ007 (the zone is next)
    return moment.replace(tzinfo=UTC) if found[2] else moment.astimezone(UTC)


def _key(key_type: str, text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("the key is not base64: it was cut short or altered") from error
    # SSH's encoding begins with the type once more.
    if not key.startswith(len(key_type).to_bytes(4) + key_type.encode()):
        raise ValueError(f"the key is not of the type {key_type} that its line says")
    return key


def _matches(word: str, patterns: str) -> bool:
    """Match a word as OpenSSH does: * and ? are wildcards, and a pattern with ! in front excludes."""
    kinds = list(starmap(_matches_one, ((word, pattern) for pattern in patterns.split(","))))
    return True in kinds and False not in kinds


def _matches_one(word: str, pattern: str) -> bool | None:
    """Return True if the pattern takes the word, False if it excludes it, None if it does not match."""
    plain = pattern.removeprefix("!")
    expression = "".join({"*": ".*", "?": "."}.get(c) or re.escape(c) for c in plain)
    if not re.fullmatch(expression, word):
        return None
    return plain == pattern
