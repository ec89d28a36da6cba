"""A setting's range in interval notation, written beside the setting -> one message for a value outside of it.

    def __post_init__(self):
        check_ranges(self, learning_rate="(0, inf)", adam_beta1="[0, 1)", eval_steps=COUNT)

A bracket includes its bound, a parenthesis does not. nan is in no range, an infinity only in one that includes it.
"""

import math

LARGEST = 2**31 - 1
"""Of all integers: windows and tokens are counted in 32 bits, and no run comes near."""
COUNT = f"[1, {LARGEST}]"
NATURAL = f"[0, {LARGEST}]"


def check_ranges(settings: object, **ranges: str) -> None:
    """Raises ValueError, with flag and value, for the first setting that is outside of its range; None is always allowed."""
    for name, interval in ranges.items():
        value = getattr(settings, name)
        if value is not None and (expected := _expected(value, interval)) is not None:
            raise ValueError(f"--{name} must be {expected}, got {_shown(value)}")


def _expected(value: float, interval: str) -> str | None:
    """What the value should be in place of what it is; None if it is in the interval."""
    low_text, high_text = interval[1:-1].split(", ")
    low, high = float(low_text), float(high_text)
    try:
        value = float(value)
    except OverflowError:  # an integer of hundreds of digits
        value = math.inf if value > 0 else -math.inf
    if math.isnan(value):
        return "a number"
    if value < low or (value == low and interval[0] == "("):
        return (
            "finite" if low == -math.inf else f"at least {low_text}" if interval[0] == "[" else f"more than {low_text}"
        )
    if value > high or (value == high and interval[-1] == ")"):
        return (
            "finite"
            if high == math.inf
            else f"at most {high_text}"
            if interval[-1] == "]"
            else f"less than {high_text}"
        )
    return None


def _shown(value: float) -> str:
    if isinstance(value, int) and abs(value) > 10**20:
        return f"{'minus ' if value < 0 else ''}an integer of {int(math.log10(abs(value))) + 1} digits"
    return str(value)
