"""Valid bytes with something wrong: flipped, cut, dropped, doubled, spliced, or with another length or token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from hypothesis import strategies as st

# What lengths, offsets and numbers go wrong at.
EDGES = [0, 1, 2, 15, 16, 17, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**16, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
WAYS = ["flip", "cut", "drop", "double", "splice", "number", "nudge", "token"]
MAX_CHANGES = 4
MAX_SPAN_BYTES = 16


def mutated(valid: st.SearchStrategy[bytes], tokens: Sequence[bytes] = ()) -> st.SearchStrategy[bytes]:
    """Make valid bytes, of which up to four places are not.

    Args:
        tokens: what may be put in anywhere.
    """
    others = st.sampled_from(tokens) if tokens else st.binary(max_size=6)

    @st.composite
    def change(draw: st.DrawFn) -> bytes:
        data = draw(valid)
        for _ in range(draw(st.integers(0, MAX_CHANGES))):
            start = draw(st.integers(0, len(data)))
            stop = min(len(data), start + draw(st.integers(1, MAX_SPAN_BYTES)))
            match draw(st.sampled_from(WAYS)):
                case "flip":
                    flipped = bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in data[start : start + 1])
                    data = data[:start] + flipped + data[start + 1 :]
                case "cut":
                    data = data[:start]
                case "drop":
                    data = data[:start] + data[stop:]
                case "double":
                    data = data[:stop] + data[start:stop] * draw(st.integers(1, 3)) + data[stop:]
                case "splice":
                    other = draw(valid)
                    data = data[:start] + other[draw(st.integers(0, len(other))) :]
                case "number" | "nudge" as way:
                    size = draw(st.sampled_from([1, 2, 4, 8]))
                    order: Literal["big", "little"] = draw(st.sampled_from(["big", "little"]))
                    old = int.from_bytes(data[start : start + size], order)
                    new = draw(st.sampled_from(EDGES)) if way == "number" else old + draw(st.integers(-3, 3))
                    data = data[:start] + (new % 2 ** (8 * size)).to_bytes(size, order) + data[start + size :]
                case "token":
                    data = data[:start] + draw(others) + data[stop if draw(st.booleans()) else start :]
        return data

    return change()


def steps(size: int, max_steps: int) -> st.SearchStrategy[bytes]:
    """Make a story of up to so many steps of `size` bytes each."""
    step = st.binary(min_size=size, max_size=size)
    # Of a list that may be empty hypothesis makes five on average.
    least = st.sampled_from([0, max_steps // 4, max_steps // 2])
    return least.flatmap(lambda least: st.lists(step, min_size=least, max_size=max_steps)).map(b"".join)


def cut_up(data: bytes, size: int) -> list[bytes]:
    """Return the pieces of so many bytes, as a stream may bring them."""
    return [data[at : at + size] for at in range(0, len(data), size)]
