"""`onionmpc levels`: explains the circuit lengths in short. The full text is in docs/THREATS.md."""

from __future__ import annotations

import click

from onionmpc.levels import Level

INTRODUCTION = """\
Each party chooses the length of its own side of every circuit, with --circuit-length. The other side is the other
party's choice: --min-circuit-length refuses a session in which someone's is too short."""

WORDS = {
    Level.SHORT: """\
  Your service goes straight to the rendezvous point. EVERY other party, and every relay that one of them picks, learns
  this machine's IP address. For a party that has nothing to hide: its links have about half the relays.""",
    Level.STANDARD: """\
  Tor's own default: a guard, a pinned second relay and the rendezvous point. No party learns an IP address.""",
    Level.LONG: """\
  One more pinned relay, drawn and kept by onionmpc. Whoever looks for your guard by running relays needs longer; each
  message needs longer, too. Each link has one circuit, unless you ask for more (see: onionmpc host --help).""",
}

CONCLUSION = """\
Relays are counted up to and including the rendezvous point, where the two sides meet. onionmpc reads your side from
your own tor and closes what is shorter than promised; what a peer says of its side is shown as a claim.

What no level changes: whoever watches the networks of two parties sees by timing that they talk with each other."""


@click.command()
def levels() -> None:
    """Explain the circuit lengths: short, standard, long."""
    blocks = [INTRODUCTION]
    for level in Level:
        promise = level.promise
        relays = f"at least {promise.dialled} relays of your own when you dial, {promise.accepted} when you are dialled"
        blocks.append(f"{level.value}: {relays}\n{WORDS[level]}")
    click.echo("\n\n".join([*blocks, CONCLUSION]))
