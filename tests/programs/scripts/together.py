"""Runs the scripts that it is given by name, one after the other. Each starts MPyC, and ends it."""

from __future__ import annotations

import sys

import array_arithmetic
import array_order
import array_shapes
import bits
import class_groups
import finite_fields
import fixed_point
import floats
import folds
import groups
import kinds
import polynomials
import random_numbers
import scheduling
import secure_integers
import secure_lists
import statistics_of_data
import thresholds
import vectors
from mpyc.runtime import mpc

scripts = (
    *(array_arithmetic, array_order, array_shapes, bits, class_groups, finite_fields, fixed_point, floats, folds),
    *(groups, kinds, polynomials, random_numbers, scheduling, secure_integers, secure_lists, statistics_of_data),
    *(thresholds, vectors),
)
for script in scripts:
    if script.__name__ in sys.argv[1:]:
        print("--", script.__name__, flush=True)
        mpc.run(script.main())
