"""A circuit breaker: who does not answer is left alone for a while.

Source: Michael T. Nygard, "Release It!", 2007.
"""

from __future__ import annotations

from typing import Final

REST_S: Final = 5.0


class Breaker:
    """Tells whether to try something that can be done without. `now` is any monotonic seconds.

    After a failure the answer is no for `rest_s`. Then one caller may try, and the others still may
    not until it has worked.
    """

    def __init__(self, rest_s: float = REST_S) -> None:
        """Begin closed: everybody may try."""
        self._rest_s = rest_s
        self._failures = 0
        self._resting_until = 0.0

    @property
    def failures(self) -> int:
        """How often it has failed since it last worked."""
        return self._failures

    def may_try(self, now: float) -> bool:
        """Return whether to try now; whoever is told so says what became of it."""
        if not self._failures:
            return True
        if now < self._resting_until:
            return False
        self._resting_until = now + self._rest_s  # for the others, while this one tries
        return True

    def worked(self) -> None:
        """It worked: everybody may try again."""
        self._failures = 0

    def failed(self, now: float) -> None:
        """It did not: nobody tries for a while."""
        self._failures += 1
        self._resting_until = now + self._rest_s
