"""An action on its way to its decision, and who waits for the outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from omninode_bridge.core.commit import ActionName
    from omninode_bridge.core.message import SealedAction

_Future = TypeVar("_Future")


class Ask(Generic[_Future]):
    """What a worker holds of an action from the door to the answer.

    `future` is the asker's, None when nobody waits here. `refusal` is why the database refuses to
    hold a value of the action; the worker that learns it sets it, and gives the action up.
    """

    __slots__ = ("action", "future", "offset", "refusal")

    def __init__(
        self, action: SealedAction, future: _Future | None = None, offset: int | None = None
    ) -> None:
        """`offset` is the action's place in the log, None when it came by `submit`."""
        self.action = action
        self.future = future
        self.offset = offset
        self.refusal: str | None = None

    @property
    def name(self) -> ActionName:
        """What the outcome is remembered by."""
        return (self.action.workflow_key, self.action.action_id)
