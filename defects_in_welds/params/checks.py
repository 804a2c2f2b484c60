"""Errors that a user can put right, and the checks of single values that raise them."""

import math
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager


class UserError(Exception):
    """Something that the user can put right; the message is one line and says how."""


class ParamsError(UserError):
    """A parameter is unknown, of the wrong type or impossible; the message names key, value and what is allowed."""


@contextmanager
def report_user_errors() -> Iterator[None]:
    """End the process with exit code 1 and one line on the standard error stream, in place of a traceback.

    Serves as a decorator of commands too.
    """
    try:
        yield
    except UserError as error:
        line = " ".join(str(error).split())
        # Names from files are quoted: what steers a terminal is shown, not sent.
        line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
        sys.stderr.write(f"error: {line}\n")
        sys.exit(1)


def require(holds: bool, key: str, value: object, allowed: str) -> None:
    """Raise a ParamsError that names key, value and what is allowed, unless the condition holds."""
    if not holds:
        raise ParamsError(f"params: {key} is {value!r}; allowed: {allowed}")


def require_positive(section: object, name: str, *keys: str) -> None:
    """Require finite numbers above 0."""
    for key in keys:
        value = getattr(section, key)
        require(0 < value < math.inf, f"{name}.{key}", value, "a number above 0")


def require_share(section: object, name: str, *keys: str) -> None:
    """Require numbers from 0 to 1."""
    for key in keys:
        value = getattr(section, key)
        require(0 <= value <= 1, f"{name}.{key}", value, "a number from 0 to 1")


def require_seed(seed: int, name: str) -> None:
    """Require a seed that every random generator in use takes."""
    require(0 <= seed < 2**32, f"{name}.seed", seed, "0 to 4294967295")


def require_choice(section: object, name: str, key: str, choices: Collection[object]) -> None:
    """Require one of the values listed."""
    value = getattr(section, key)
    require(value in choices, f"{name}.{key}", value, " | ".join(map(str, choices)))


def require_ranges(section: object, name: str, *keys: str, least: float = 0.0, most: float = math.inf) -> None:
    """Require pairs of a lower and an upper bound, in this order, both within the limits."""
    for key in keys:
        value: Sequence[float] = getattr(section, key)
        holds = len(value) == 2 and least <= value[0] <= value[1] <= most and value[1] < math.inf
        allowed = f"[low, high] with {least:g} <= low <= high" + (f" <= {most:g}" if most < math.inf else "")
        require(holds, f"{name}.{key}", list(value), allowed)


def require_count(flag: str, given: object) -> None:
    """Require of a command's flag a whole number above 0."""
    if not is_count(given):
        raise ParamsError(f"--{flag} is {given!r}; allowed: a whole number above 0")


def is_count(value: object) -> bool:
    """Tell whether a value is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
