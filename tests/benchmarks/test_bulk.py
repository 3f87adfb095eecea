"""What `benchmarks.bulk` writes at a time."""

from __future__ import annotations

import pytest

from benchmarks.bulk import CHUNK_BYTES, parts


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 8_000_000])
def test_parts_make_up_the_whole(size: int) -> None:
    assert sum(parts(size)) == size
    assert max(parts(size)) <= CHUNK_BYTES
