"""Checks of values that configs give."""


def is_number(value: object) -> bool:
    """Whether a value is an integer or a float, and not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def as_number(value: object) -> float | None:
    """A metric as a number; None if it is something else, such as a matrix."""
    try:
        return float(value) if hasattr(value, '__float__') else None
    except (TypeError, ValueError, RuntimeError):  # tensors and arrays of several
        return None
