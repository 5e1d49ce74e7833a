"""Checks of values that configs give."""


def is_number(value: object) -> bool:
    """An integer or a float, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)
