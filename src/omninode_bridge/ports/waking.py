"""How processes tell each other that there is something to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Wake:
    """In the action log of `partition` there is something new, or among its outcomes.

    `commit`: something was committed there that others are to follow.
    """

    of: Literal["action", "outcome", "commit"]
    partition: int


class Wakes(Protocol):
    """Tells and hears. It keeps nothing and promises nothing: who is not told looks by and by."""

    def tell(self, wake: Wake) -> None:
        """Say that there is something to look at, without waiting."""
        ...

    async def hear(self, heard: Callable[[Wake], None]) -> None:
        """Hear what is told until cancelled; returns where nothing can be heard.

        Raises:
            DatabaseUnavailable: what was listened to is lost.
        """
        ...
