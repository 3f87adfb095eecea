"""`onionmpc levels`: explains the circuit lengths in short. The full text is in docs/THREATS.md."""

from __future__ import annotations

import click

from onionmpc.levels import Level

INTRODUCTION = """\
Each party chooses the length of its own side of every circuit, with --circuit-length. The other party chooses the
other side: with --min-circuit-length you refuse sessions in which someone's side is too short."""

WORDS = {
    Level.SHORT: """\
  Your service connects straight to the rendezvous point. EVERY other party, and every relay that one of them picks,
  learns this machine's IP address. For a party with nothing to hide: its links have about half the relays.""",
    Level.STANDARD: """\
  Tor's own default: a guard, a pinned second relay and the rendezvous point. No party learns an IP address.""",
    Level.LONG: """\
  One more pinned relay, which onionmpc draws and keeps. An attacker who runs relays to find your guard needs longer;
  each message takes longer, too. Each link has one circuit, unless you ask for more (see: onionmpc host --help).""",
}

CONCLUSION = """\
The counts include the rendezvous point, where the two sides meet. onionmpc reads your side from your own tor, and
closes a circuit that is shorter than promised. What a peer says about its side is shown as a claim.

No level changes this: an observer of the networks of two parties can see by timing that they talk to each other."""


@click.command()
def levels() -> None:
    """Explain the circuit lengths: short, standard, long."""
    blocks = [INTRODUCTION]
    for level in Level:
        promise = level.promise
        relays = f"at least {promise.dialled} relays of your own when you dial, {promise.accepted} when you are dialled"
        blocks.append(f"{level.value}: {relays}\n{WORDS[level]}")
    click.echo("\n\n".join([*blocks, CONCLUSION]))
