"""Which values PostgreSQL cannot hold, so that the stores in memory refuse them as well.

All of them were kept out long before, by the checks of an action and by the codec: this is the last
line, behind a codec or a producer of somebody else's.
"""

from __future__ import annotations

import re
from datetime import UTC
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.errors import ValueRefused
from omninode_bridge.core.reducer import Absorbed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from omninode_bridge.core.commit import Commit
    from omninode_bridge.core.reducer import SealedProjection

REMEMBER_S_LIMIT: Final = 9e12
"""PostgreSQL's time ends in the year 294276, some 9.2e12 seconds from now."""
_UNSTORABLE: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u(?:0000|[dD][89a-fA-F])")


def check_commit(commit: Commit) -> None:
    """Pass what a commit function could write.

    Raises:
        ValueRefused: for the first value that it could not.
    """
    for step in commit.steps:
        action = step.action
        check_text(action.workflow_key)
        if action.remember_s is not None and not abs(action.remember_s) < REMEMBER_S_LIMIT:
            raise ValueRefused("22008", f"{action.remember_s} seconds from now is out of range")
        if isinstance(step, Absorbed):
            check_text(action.type)
            check_json(step.snapshot.state)
            for intent in step.intents:
                check_text(intent.intent_type)
                check_text(intent.target)
        else:
            check_text(step.detail)
        if action.reply_to is not None:
            check_text(action.reply_to)


def check_projections(projections: Iterable[SealedProjection]) -> None:
    """Pass what a row of the projection can hold.

    Raises:
        ValueRefused: for the first value that it could not.
    """
    for projection in projections:
        check_text(projection.tag)
        check_text(projection.namespace)
        for data in (projection.indices, projection.extras):
            if data is not None:
                check_json(data)


def check_text(text: str) -> None:
    """Pass what TEXT, and a text within JSONB, can hold.

    Raises:
        ValueRefused: for NUL and lone surrogates.
    """
    if "\0" in text:
        raise ValueRefused("22P05", "a NUL character cannot be converted to text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueRefused("22021", str(error)) from error


def check_moment(moment: datetime) -> None:
    """Pass what TIMESTAMPTZ can be given: a moment that exists in UTC.

    Raises:
        ValueRefused: an offset leads out of the years that a datetime has.
    """
    try:
        moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueRefused("22000", f"{moment} is no time in UTC") from error


def check_json(data: bytes) -> None:
    """Pass JSON, as an encoder writes it, that JSONB can hold.

    Raises:
        ValueRefused: for escapes of NUL and of surrogates: an encoder writes others plainly.
    """
    if _UNSTORABLE.search(data):
        raise ValueRefused("22P05", "the escape of a character that JSONB has no place for")
