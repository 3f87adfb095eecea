"""Messages of a session, of each kind at least one, and their frames."""

from __future__ import annotations

from hypothesis import strategies as st

from onionmpc.program.spec import MAX_PLACES, Place, Wait
from onionmpc.session.agreement import PartyTerms, SharedTerms
from onionmpc.session.messages import (
    CAUSES,
    STEPS,
    AnyMessage,
    Commit,
    Done,
    Further,
    Leaving,
    MessageDecoder,
    Moving,
    Offer,
    OwnSide,
    Refused,
    Rendezvous,
    Report,
    Seats,
    Signed,
    Terms,
    Verdict,
    Waiting,
)

COMMON = SharedTerms(
    protocol=1,
    addresses=("a.onion", "b.onion"),
    threshold=0,
    program="vote",
    files={"vote.py": "00" * 32},
    public_arguments=("tea", "é\n"),
    mpyc_version="0.11",
    mpyc_options=("-L64",),
    python="CPython 64-bit",
    numpy=None,
)
TERMS = Terms(COMMON, "5e" * 32, {COMMON.addresses[0]: "d1" * 32})
# The first offer of a peer, its proposal of a further computation, and a proposal of a lower party that it follows.
FIRST = Offer(COMMON, PartyTerms())
PROPOSAL = Offer(COMMON, PartyTerms(), Further("b.onion", "be" * 16))
LOWER = Offer(COMMON, PartyTerms(), Further("a.onion", "af" * 16))
EXAMPLES: list[AnyMessage] = [
    Seats(2, 3),
    Refused("no"),
    TERMS,
    FIRST,
    PROPOSAL,
    LOWER,
    Commit("00" * 32),
    Rendezvous(2**48 - 1, "A" * 40),
    OwnSide(0, 4),
    Waiting(Wait((1,), (Place("vote.py", 7),), ending=False, failed=True, sent=("0", "2"), received=("0", "f" * 16))),
    Moving(),
    Done(),
    Signed("c0" * 32, "51" * 64),
    Leaving(),
    Report("a.onion", "b.onion", "lost", "run", "the stream ended"),
    Verdict(("a.onion",)),
]
text = st.text(max_size=20)
counts = st.lists(st.from_regex("[0-9a-f]{0,16}", fullmatch=True), max_size=3).map(tuple)
places = st.builds(Place, st.text(min_size=1, max_size=20), st.integers(0, 2**31 - 1))
waits = st.builds(
    Wait,
    st.lists(st.integers(0, 255), max_size=3).map(tuple),
    st.lists(places, max_size=MAX_PLACES).map(tuple),
    st.booleans(),
    st.booleans(),
    counts,
    counts,
)
messages = st.one_of(
    st.builds(Seats, st.integers(-(2**63), 2**63 - 1), st.integers(0, 256)),
    st.builds(Refused, text),
    st.builds(Commit, text),
    st.builds(Rendezvous, st.integers(0, 2**48 - 1), st.from_regex("[0-9A-F]{40}", fullmatch=True)),
    st.builds(Waiting, waits),
    st.builds(Moving),
    st.builds(Done),
    st.builds(Report, text, text, st.sampled_from(CAUSES), st.sampled_from(STEPS), text),
    st.builds(Verdict, st.lists(text, max_size=4).map(tuple)),
    st.sampled_from(EXAMPLES),
)


def decode(*pieces: bytes) -> list[AnyMessage]:
    decoder = MessageDecoder()
    return [message for piece in pieces for message in decoder.decode(piece)]


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4) + body
