"""Numbers and dates of Python's own library that pickle has no opcodes for."""

from __future__ import annotations

import datetime
import decimal
import fractions
import re
from typing import Any

from onionmpc.program.values.checks import MAX_NUMBER_BYTES, Reducer, exact, integer

# As a Decimal, "1E999999999" is short. As an integer it would fill the memory. The longest integer has as many digits.
MAX_DECIMAL_DIGITS = MAX_NUMBER_BYTES * 8 * 3 // 10
_DECIMAL = re.compile(r"-?(?:Infinity|s?NaN[0-9]*|[0-9]+(?:\.[0-9]+)?(?:[Ee]([+-][0-9]{1,9}))?)")
_BYTES_PER_ITEM_OF_RANGE = 40  # as a list of its numbers


def complex_number(real: float, imaginary: float) -> complex:
    """Build a complex number."""
    return complex(exact(real, float), exact(imaginary, float))


def number_range(start: int, stop: int, step: int) -> range:
    """Build a range. Its numbers have at most 64 bits, so its length has too."""
    if any(exact(number, int).bit_length() > 63 for number in (start, stop, step)):
        raise ValueError("a range with numbers of more than 64 bits")
    return range(start, stop, step)


def bytes_of_range(start: int, stop: int, step: int) -> int:
    """Return what the list of its numbers takes: a program may go through it where it expects a list."""
    return _BYTES_PER_ITEM_OF_RANGE * len(number_range(start, stop, step))


def fraction(numerator: int, denominator: int) -> fractions.Fraction:
    """Build a fraction."""
    if integer(denominator) <= 0:
        raise ValueError("a denominator that is not positive")
    return fractions.Fraction(integer(numerator), denominator)


def decimal_number(text: str) -> decimal.Decimal:
    """Build a decimal number from its text, as str() writes it."""
    match = _DECIMAL.fullmatch(exact(text, str))
    if match is None:
        raise ValueError("not a decimal number")
    if len(text) > MAX_DECIMAL_DIGITS or abs(int(match[1] or 0)) > MAX_DECIMAL_DIGITS:
        raise ValueError(f"a decimal number of more than {MAX_DECIMAL_DIGITS} digits")
    return decimal.Decimal(text)


def date(year: int, month: int, day: int) -> datetime.date:
    """Build a date. The constructors of these types check ranges, but read bytes as the state of a pickle."""
    return datetime.date(integer(year), integer(month), integer(day))


def time(clock: tuple[int, ...], fold: int, zone: datetime.timezone | None) -> datetime.time:
    """Build a time of day from hour, minute, second and microsecond."""
    hour, minute, second, microsecond = _integers(clock, 4)
    return datetime.time(hour, minute, second, microsecond, _zone(zone), fold=integer(fold))


def date_and_time(numbers: tuple[int, ...], fold: int, zone: datetime.timezone | None) -> datetime.datetime:
    """Build a date with a time from year, month, day, hour, minute, second and microsecond."""
    year, month, day, hour, minute, second, microsecond = _integers(numbers, 7)
    return datetime.datetime(year, month, day, hour, minute, second, microsecond, _zone(zone), fold=integer(fold))


def duration(days: int, seconds: int, microseconds: int) -> datetime.timedelta:
    """Build a duration."""
    return datetime.timedelta(integer(days), integer(seconds), integer(microseconds))


def time_zone(offset: datetime.timedelta, name: str | None) -> datetime.timezone:
    """Build a time zone with a fixed offset."""
    exact(offset, datetime.timedelta)
    return datetime.timezone(offset) if name is None else datetime.timezone(offset, exact(name, str))


def reduce_complex(value: complex) -> tuple[Any, ...]:
    """Take a complex number apart; the functions below do the same for other types."""
    return complex_number, (value.real, value.imag)


def reduce_range(value: range) -> tuple[Any, ...]:
    """Take a range apart."""
    number_range(value.start, value.stop, value.step)
    return number_range, (value.start, value.stop, value.step)


def reduce_fraction(value: fractions.Fraction) -> tuple[Any, ...]:
    """Take a fraction apart."""
    return fraction, (integer(value.numerator), integer(value.denominator))


def reduce_decimal(value: decimal.Decimal) -> tuple[Any, ...]:
    """Take a decimal number apart."""
    decimal_number(str(value))
    return decimal_number, (str(value),)


def reduce_date(value: datetime.date) -> tuple[Any, ...]:
    """Take a date apart."""
    return date, (value.year, value.month, value.day)


def reduce_time(value: datetime.time) -> tuple[Any, ...]:
    """Take a time of day apart."""
    clock = (value.hour, value.minute, value.second, value.microsecond)
    return time, (clock, value.fold, _zone(value.tzinfo))


def reduce_date_and_time(value: datetime.datetime) -> tuple[Any, ...]:
    """Take a date with a time apart."""
    numbers = (value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)
    return date_and_time, (numbers, value.fold, _zone(value.tzinfo))


def reduce_duration(value: datetime.timedelta) -> tuple[Any, ...]:
    """Take a duration apart."""
    return duration, (value.days, value.seconds, value.microseconds)


def reduce_time_zone(value: datetime.timezone) -> tuple[Any, ...]:
    """Take a time zone apart. Without a name of its own, Python names it after its offset."""
    offset = value.utcoffset(None)
    name = value.tzname(None)
    return time_zone, (offset, None if name == datetime.timezone(offset).tzname(None) else name)


PLAIN_REDUCERS: dict[type, Reducer] = {
    complex: reduce_complex,
    range: reduce_range,
    fractions.Fraction: reduce_fraction,
    decimal.Decimal: reduce_decimal,
    datetime.date: reduce_date,
    datetime.time: reduce_time,
    datetime.datetime: reduce_date_and_time,
    datetime.timedelta: reduce_duration,
    datetime.timezone: reduce_time_zone,
}


def _integers(numbers: tuple[int, ...], count: int) -> list[int]:
    if len(exact(numbers, tuple)) != count:
        raise ValueError(f"expected {count} numbers")
    return [integer(number) for number in numbers]


def _zone(zone: Any) -> datetime.timezone | None:  # noqa: ANN401 (a program may have any tzinfo)
    if zone is not None and type(zone) is not datetime.timezone:
        raise TypeError(f"a time zone that is a {type(zone).__name__}; use astimezone(datetime.timezone.utc)")
    return zone
