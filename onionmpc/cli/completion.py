"""Completes names of contacts, for shells that ask click."""

from __future__ import annotations

import click

from onionmpc.errors import UsageError


def contact_names(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
    """Return the names of contacts that begin with what was typed."""
    from onionmpc.api.contacts import contacts  # not at the top: --help needs no session

    try:
        return [name for name in contacts() if name.startswith(typed)]
    except UsageError:  # while a person types, a shell has no place for the sentence
        return []
