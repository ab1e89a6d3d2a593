"""The waits between attempts are decorrelated jitter, within their bounds whatever the dice say."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode_bridge.core.retry import Backoff, next_wait_ms

if TYPE_CHECKING:
    from random import Random

milliseconds = st.floats(0.001, 1e6)


class Dice:
    """Falls at `share` of every range, and remembers the ranges."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.ranges: list[tuple[float, float]] = []

    def __call__(self, low: float, high: float) -> float:
        """Return what is at `share` between `low` and `high`."""
        self.ranges.append((low, high))
        return low + (high - low) * self.share


def test_the_defaults_are_three_attempts_between_10_and_250_ms() -> None:
    backoff = Backoff()
    assert (backoff.attempts, backoff.base_ms, backoff.cap_ms) == (3, 10.0, 250.0)


def test_the_dice_are_cast_between_the_base_and_three_times_the_wait_before() -> None:
    dice = Dice(1.0)
    waits = list(Backoff(attempts=6).waits_ms(dice))
    assert waits == [30.0, 90.0, 250.0, 250.0, 250.0]
    assert dice.ranges == [(10.0, 30.0), (10.0, 90.0), (10.0, 270.0), (10.0, 750.0), (10.0, 750.0)]


@pytest.mark.parametrize(
    ("thrown", "expected"), [(10.0, 10.0), (249.9, 249.9), (250.1, 250.0), (10_000.0, 250.0)]
)
def test_a_wait_is_what_was_thrown_up_to_the_cap(thrown: float, expected: float) -> None:
    assert next_wait_ms(100.0, 10.0, 250.0, lambda _low, _high: thrown) == expected


@given(st.integers(1, 12), milliseconds, milliseconds, st.randoms())
def test_every_wait_is_within_its_bounds_for_any_dice(
    attempts: int, one: float, other: float, dice: Random
) -> None:
    base, cap = sorted((one, other))
    waits = list(Backoff(attempts, base, cap).waits_ms(dice.uniform))
    assert all(base <= wait <= cap for wait in waits)
    assert all(after <= max(3 * before, base) for before, after in pairwise([base, *waits]))


@given(st.integers(1, 50))
def test_none_follows_the_last_attempt(attempts: int) -> None:
    assert len(list(Backoff(attempts=attempts).waits_ms(Dice(0.5)))) == attempts - 1


def test_a_cap_at_the_base_waits_evenly() -> None:
    assert list(Backoff(3, 5.0, 5.0).waits_ms(Dice(0.7))) == [5.0, 5.0]


@pytest.mark.parametrize("attempts", [0, -1])
def test_there_is_at_least_one_attempt(attempts: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1, not {attempts}"):
        Backoff(attempts=attempts)


@pytest.mark.parametrize(("base", "cap"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0)])
def test_bounds_that_no_wait_could_keep_are_refused(base: float, cap: float) -> None:
    with pytest.raises(ValueError, match="need 0 < base <= cap"):
        Backoff(base_ms=base, cap_ms=cap)
