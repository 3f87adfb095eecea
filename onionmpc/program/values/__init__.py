"""Converts the values that MPyC programs send to calls of functions that a peer may make.

Values for which pickle has no opcodes travel as plain numbers, strings, lists and dicts. `reduce_value` takes them
apart, and the functions in BUILDERS put them together again. A peer can call these with any arguments, so each accepts
only valid ones and raises one of MALFORMED otherwise. A peer can name MPyC's types but cannot create new ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onionmpc.program.values import arrays, containers, plain
from onionmpc.program.values.arrays import (
    array_of_numbers,
    bytes_of_array,
    numpy_bytes,
    numpy_scalar,
    numpy_text,
    reduce_scalar,
)
from onionmpc.program.values.checks import Builder, Reducer
from onionmpc.program.values.containers import (
    bytes_of_deque,
    bytes_of_dict,
    counter,
    default_dict,
    double_ended_queue,
    ordered_dict,
)
from onionmpc.program.values.fields import (
    array_of_shares,
    bytes_of_field_array,
    bytes_of_field_element,
    bytes_of_polynomial,
    bytes_of_shares,
    field_array,
    field_element,
    is_of_mpyc,
    polynomial,
    reduce_field_array,
    reduce_field_element,
    reduce_polynomial,
)
from onionmpc.program.values.groups import bytes_of_group_element, group_element, reduce_group_element
from onionmpc.program.values.plain import (
    bytes_of_range,
    complex_number,
    date,
    date_and_time,
    decimal_number,
    duration,
    fraction,
    number_range,
    time,
    time_zone,
)


def _nothing(*_arguments: object) -> int:
    return 0


# The exact list of what a peer may call, each with the memory that it takes.
BUILDERS = {
    build.__name__: Builder(build, size)
    for build, size in (
        (array_of_numbers, bytes_of_array),
        (numpy_scalar, bytes_of_array),
        (numpy_text, _nothing),
        (numpy_bytes, _nothing),
        (array_of_shares, bytes_of_shares),
        (polynomial, bytes_of_polynomial),
        (field_element, bytes_of_field_element),
        (field_array, bytes_of_field_array),
        (group_element, bytes_of_group_element),
        (complex_number, _nothing),
        (number_range, bytes_of_range),
        (fraction, _nothing),
        (decimal_number, _nothing),
        (date, _nothing),
        (time, _nothing),
        (date_and_time, _nothing),
        (duration, _nothing),
        (time_zone, _nothing),
        (ordered_dict, bytes_of_dict),
        (counter, bytes_of_dict),
        (default_dict, bytes_of_dict),
        (double_ended_queue, bytes_of_deque),
    )
}
for _builder in BUILDERS.values():
    _builder.build.__module__ = __name__  # what a message names does not depend on which file defines the builder

# By exact type: an instance of a subclass may hold more than its base.
_REDUCERS: dict[type, Reducer] = {**arrays.NUMPY_REDUCERS, **plain.PLAIN_REDUCERS, **containers.CONTAINER_REDUCERS}
_OF_MPYC: tuple[tuple[str, str, Reducer], ...] = (
    ("finfields", "FiniteFieldElement", reduce_field_element),
    ("finfields", "FiniteFieldArray", reduce_field_array),
    ("gfpx", "Polynomial", reduce_polynomial),
    ("fingroups", "FiniteGroupElement", reduce_group_element),
)


def reduce_value(value: Any) -> tuple[Any, ...] | None:  # noqa: ANN401 (a program may send anything)
    """Return the builder and arguments that make `value` again, or None if no builder does.

    Raises:
        ProgramError: the value is an array of something that does not travel.
        One of MALFORMED: the other parties would refuse it.
    """
    if reducer := _REDUCERS.get(type(value)):
        return reducer(value)
    if isinstance(value, np.generic) and type(value).__module__ == "numpy":
        return reduce_scalar(value)
    for module, base, reducer in _OF_MPYC:
        if is_of_mpyc(value, module, base):
            return reducer(value)
    return None
