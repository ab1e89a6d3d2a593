"""A handler that writes in the transaction which ends its effect: both are durable, or neither."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from omninode_bridge.core.errors import BridgeError, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from omninode_bridge.core.effects import EndedEffect
    from omninode_bridge.ports import EffectTransaction


class NotBegun(BridgeError):
    """No transaction could be had for a handler: it was not called."""


class _Undone(BridgeError):
    """Undo what a handler wrote: it failed, it had ended before, or the partition is another's."""


async def end_in(
    opened: AbstractAsyncContextManager[EffectTransaction],
    carry_out: Callable[[Any], Awaitable[EndedEffect]],
) -> EndedEffect | None:
    """Let `carry_out` write on the connection of a transaction, and end its effect there.

    Raises:
        NotBegun: an outage before the handler was called.
        DatabaseUnavailable: an outage since: it may have ended, and what it wrote is there then.
    """
    failure: BaseException | None = None
    called = False
    over = None
    try:
        with suppress(_Undone):
            async with opened as transaction:
                called = True
                try:
                    ended = await carry_out(transaction.connection)
                except BaseException as error:
                    failure = error
                    raise _Undone from error
                said = await transaction.end(ended)
                if said != "ended":
                    over = ended if said == "over" else None
                    raise _Undone
    except DatabaseUnavailable as error:
        # Once it was called it is an attempt: a handler that loses its connection each time would
        # be called for ever.
        if not called:
            raise NotBegun(str(error)) from error
        failure = failure or error
    if failure is not None:
        raise failure
    return over
