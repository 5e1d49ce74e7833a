"""Checks of values that configs give."""


def is_number(value: object) -> bool:
    """Whether a value is an integer or a float, and not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)
