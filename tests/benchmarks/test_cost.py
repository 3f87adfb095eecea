"""What `benchmarks.cost` puts in a protection's place does what that does, and protects nothing."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cost import copying_records, messages, sealed_records
from onionmpc.program.pickles.unpickle import RestrictedPickle


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=4))
def test_copying_records_have_the_length_of_sealed_ones_and_hide_nothing(plaintexts: list[bytes]) -> None:
    (copying, copied), (sealing, opened) = copying_records(), sealed_records()
    plain = b"".join(map(copying.encode, plaintexts))
    sealed = b"".join(map(sealing.encode, plaintexts))
    assert len(plain) == len(sealed)
    assert all(plaintext in plain for plaintext in plaintexts)
    assert list(copied.decode(plain)) == list(opened.decode(sealed)) == plaintexts


@pytest.mark.parametrize("message", messages().values(), ids=messages())
def test_both_picklers_carry_each_message(message: Any) -> None:
    ours = RestrictedPickle()
    for carried in (ours.loads(ours.dumps(message)), pickle.loads(pickle.dumps(message))):
        np.testing.assert_equal(carried, message)
