"""What several stores read from the driver's rows alike, and how rows become arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from omninode_bridge.core.effects import LoggedIntent
from omninode_bridge.infrastructure import wire
from omninode_bridge.infrastructure.postgres.database import plain_uuid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omninode_bridge.core.reducer import Codec


def logged_intent(row: Any, codec: Codec) -> LoggedIntent:  # noqa: ANN401 - asyncpg ships no types
    """Return the intent that a row of the log, or of what is parked, tells of."""
    body = orjson.loads(row["body"])
    names = (plain_uuid(row["intent_id"]), row["intent_type"], row["target"])
    correlation_id = body.get("correlation_id")
    return LoggedIntent(
        row["offset"],
        wire.read_intent(*names, body, codec),
        plain_uuid(row["action_id"]),
        None if correlation_id is None else UUID(correlation_id),
        body["depth"],
        row["committed_at"],
        row["workflow_key"],
    )


def columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    """Return `width` columns of `rows`: a function takes arrays, one for each column."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * width
