"""Checks of values that configs give."""

import math

from .errors import ConfigError


def is_number(value: object) -> bool:
    """Whether a value is an integer or a float, and not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def as_number(value: object) -> float | None:
    """A metric as a number; None if it is something else, such as a matrix."""
    try:
        return float(value) if hasattr(value, '__float__') else None
    except (TypeError, ValueError, RuntimeError):  # tensors and arrays of several
        return None


def check_numbers(low: float = 0, high: float = math.inf, **settings: object) -> None:
    """Check that settings of a method are numbers above ``low`` and below ``high``.

    Raises:
        ConfigError: One is not.
    """
    expected = f'a number above {low}' + f' and below {high}' * (high < math.inf)
    for name, value in settings.items():
        ok = is_number(value) and low < value < high
        ConfigError.check(ok, f'model.{name}', expected, repr(value))


def check_counts(**settings: object) -> None:
    """Check that settings of a method are whole numbers above 0.

    Raises:
        ConfigError: One is not.
    """
    for name, value in settings.items():
        ok = type(value) is int and value > 0
        ConfigError.check(ok, f'model.{name}', 'a whole number above 0', repr(value))


def check_one_of(*accepted: object, **settings: object) -> None:
    """Check that settings of a method are among some values.

    Raises:
        ConfigError: One is not.
    """
    for name, value in settings.items():
        ok = any(type(value) is type(other) and value == other for other in accepted)
        ConfigError.check(ok, f'model.{name}', ' or '.join(map(repr, accepted)), repr(value))
