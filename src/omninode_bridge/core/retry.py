"""How long to wait before the next attempt: decorrelated jitter.

Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Uniform = Callable[[float, float], float]


@dataclass(frozen=True, slots=True)
class Backoff:
    """`attempts` in all, waits between `base_ms` and `cap_ms`.

    Raises:
        ValueError: when there is no attempt, or the cap is below the base.
    """

    attempts: int = 3
    base_ms: float = 10.0
    cap_ms: float = 250.0

    def __post_init__(self) -> None:
        """Refuse what could never wait or never try."""
        if self.attempts < 1:
            message = f"attempts must be at least 1, not {self.attempts}"
            raise ValueError(message)
        if not 0 < self.base_ms <= self.cap_ms:
            message = f"base_ms {self.base_ms} and cap_ms {self.cap_ms}: need 0 < base <= cap"
            raise ValueError(message)

    def waits_ms(self, uniform: Uniform) -> Iterator[float]:
        """Yield the waits, one fewer than there are attempts: none follows the last.

        `uniform(a, b)` brings the dice (R1), for example `random.uniform`.
        """
        previous_ms = self.base_ms
        for _ in range(self.attempts - 1):
            previous_ms = next_wait_ms(previous_ms, self.base_ms, self.cap_ms, uniform)
            yield previous_ms


def next_wait_ms(previous_ms: float, base_ms: float, cap_ms: float, uniform: Uniform) -> float:
    """Return `min(cap, uniform(base, previous * 3))`, all in milliseconds."""
    return min(cap_ms, uniform(base_ms, previous_ms * 3))


OUTAGE_BACKOFF: Final = Backoff(attempts=2**62, base_ms=20, cap_ms=1_000)
"""While the database is away every loop goes on trying, a second apart at most, without end."""
