"""Policies, as text and read."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from onionmpc.program.code.catalogue import ProgramFile, digest_of_files
from onionmpc.session.agreement import SharedTerms
from onionmpc.session.policy import PolicyRules, Rule, parse_policy
from tests.support.agreements import COMMON


def digest_of(common: SharedTerms) -> str:
    """The digest of a program, as a policy names it."""
    files = [ProgramFile(path, bytes.fromhex(sha256)) for path, sha256 in common.files.items()]
    return f"sha256:{digest_of_files(files).hex()}"


DIGEST = digest_of(COMMON)
OTHER_DIGEST = f"sha256:{'0c' * 32}"
RULE = f'version = 1\n[[allow]]\nprogram = ["{DIGEST}"]\n'
# A policy with every key.
EVERY_KEY = f"""version = 1
[[allow]]
program = ["{DIGEST}"]  # a comment
public = ["--quarter=20??Q?"]
parties = {{names = ["acme.example", "bank"], min_known = 2, max_vouched = 1, max_introduced = 2, max_strangers = 3}}
seats = [3, 7]
min_threshold = 1
min_circuit_length = "long"
mpyc = ["-L64"]
allow_type = ["__main__.Ballot"]
padding = 20
circuits = 1
receipt = "any"
inputs = {{salary = "@/data/q.csv"}}
max_runs = "1/30d"
same_roster = false
[[allow]]
reviewed_by = ["anna", "ben"]
reviews = ["anna.statement", "ben.statement"]
reviews_needed = 1
stdin = "@q.csv"
max_runs = "2/12h"
"""
# The public arguments of AGREEMENT, whose program is DIGEST.
FITTING = 'public = ["*"]\n'


def policy_of(lines: str) -> PolicyRules:
    """A policy of one rule; for DIGEST, if these lines name no program."""
    head = "version = 1\n[[allow]]\n" if "reviewed_by" in lines else RULE
    return parse_policy(f"{head}{lines}\n".encode(), "my.toml")


def toml_of(rule: Rule) -> str:
    """A policy of this rule, written down."""
    lines = [f"{key} = {_value(value)}" for key, value in msgspec.to_builtins(rule).items() if value is not None]
    return "\n".join(["version = 1", "[[allow]]", *lines])


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(key)} = {_value(each)}' for key, each in value.items())}}}"
    return json.dumps(value)


def rule_of(lines: str = "") -> Rule:
    """A rule that allows AGREEMENT, with these lines."""
    return policy_of(FITTING + lines).rules[0]
