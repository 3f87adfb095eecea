"""Gives an array the shape that a peer names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onionmpc.program.values.checks import exact

# An array of shape (2**62, 0) takes no memory, but a program that goes through its rows would never finish.
MAX_EMPTY_ROWS = 2**24
_MAX_DIMENSIONS = 64  # of numpy


def shaped(array: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Return an array in another shape."""
    if len(exact(shape, tuple)) > _MAX_DIMENSIONS or not all(0 <= exact(length, int) < 2**63 for length in shape):
        raise ValueError("a shape that no array has")
    if not array.size and math.prod(filter(None, shape)) > MAX_EMPTY_ROWS:
        raise ValueError(f"an empty array of more than {MAX_EMPTY_ROWS} rows")
    return array.reshape(shape)
