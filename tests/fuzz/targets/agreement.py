"""Offers: equal to ours and of our session id, or told apart in one printable line at either end; nothing else.

What is compared came from a peer, as JSON.
"""

from __future__ import annotations

import msgspec
from hypothesis import strategies as st

from onionmpc.errors import AgreementError, RemoteProtocolError
from onionmpc.levels import Level
from onionmpc.session.agreement import (
    MAX_CIRCUITS,
    PartyTerms,
    SharedTerms,
    check_floors,
    circuits_of_link,
    session_id,
)
from onionmpc.session.comparison import check_equal
from onionmpc.session.messages import MESSAGE_LENGTH_BYTES, Offer, encode_message
from tests.fuzz.mutations import mutated
from tests.fuzz.targets.messages import JSON_TOKENS
from tests.support.agreements import AGREEMENT, COMMON, OTHERS, change
from tests.support.messages import decode, framed

WORDS = [b"tea", b"a.onion", b"vote.py", b'"vote', b"0.11", b"CPython"]
ESCAPES = [b"\\u202e", b"\\n", b"\\u001b[2J", b'"\\u0000', b"\xe2\x80\xae"]
TOKENS = [
    *JSON_TOKENS,
    *(f'"{name}":'.encode() for name in OTHERS),
    *(*WORDS, *ESCAPES, b'"":"",'),
]
COMMONS = st.dictionaries(st.sampled_from(list(OTHERS)), st.none(), max_size=2).map(
    lambda fields: change(COMMON, **{name: OTHERS[name] for name in fields})
)
OWNS = st.builds(PartyTerms, st.sampled_from(Level), st.sampled_from(Level), st.integers(1, MAX_CIRCUITS))
OFFERS = st.builds(lambda common, own: encode_message(Offer(common, own))[MESSAGE_LENGTH_BYTES:], COMMONS, OWNS)
# Words that speak to a terminal, in the place of one that is shown.
SPOKEN = st.builds(bytes.replace, OFFERS, st.sampled_from(WORDS), st.sampled_from(ESCAPES), st.just(1))
INPUTS = mutated(OFFERS | SPOKEN, TOKENS)
REFUSALS = (RemoteProtocolError,)
OURS = PartyTerms()


def check(data: bytes) -> object:
    (offer,) = decode(framed(data))
    if not isinstance(offer, Offer):
        return None
    ids = {session_id(msgspec.structs.replace(AGREEMENT, common=common)) for common in (COMMON, offer.common)}
    differences = {difference(COMMON, offer.common), difference(offer.common, COMMON)}
    # Or parties that do not run the same would start, or parties that do would not.
    assert (differences == {None}) == (len(ids) == 1) == (offer.common == COMMON)
    floors = [below(OURS, offer.own), below(offer.own, OURS)]
    assert all(floors) == any(floors)
    for one, other in ((OURS, offer.own), (offer.own, OURS)):
        circuits = circuits_of_link(offer.common, one, other)
        assert 1 <= circuits <= min(MAX_CIRCUITS, offer.own.max_circuits)
    return len(ids), any(floors)


def difference(ours: SharedTerms, theirs: SharedTerms) -> str | None:
    try:
        check_equal(ours, theirs, here="party 0", there="party 2")
    except AgreementError as error:
        assert error.message.isprintable()
        return error.message
    return None


def below(ours: PartyTerms, theirs: PartyTerms) -> bool:
    try:
        check_floors(ours, theirs, here="party 0", there="party 2")
    except AgreementError as error:
        assert error.message.isprintable()
        return True
    return False
