"""Dead letters: actions that were given up because something is broken, and dead effects.

Rule 1: a redrive keeps the id. For an action it replaces the remembered give-up in the commit that
        applies it (R3), and the log entry says that it was redriven; twice redriven is once
        applied. Whoever asked through `reply_to` is told the new end as well.
Rule 2: what was told to an asker as an answer (`rejected`, `conflict`, ...) is no dead letter,
        unless somebody asks for that reason by name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, get_args
from uuid import uuid4

import orjson

from omninode_bridge.core.errors import ConfigurationError
from omninode_bridge.core.message import GiveUpReason
from omninode_bridge.infrastructure import wire
from omninode_bridge.infrastructure.entities import ModelDeadLetter
from omninode_bridge.infrastructure.postgres.database import plain_uuid
from omninode_bridge.infrastructure.postgres.statements import Statements

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from uuid import UUID

    from omninode_bridge.core.message import SealedAction
    from omninode_bridge.core.reducer import Codec
    from omninode_bridge.infrastructure.postgres.database import Database

SQL: Final = Statements("omninode_bridge.services", "dead_letters.sql")

BROKEN: Final = ("reducer_error", "invalid")
DEAD: Final = "dead"
PAGE: Final = 1_000
REASONS: Final = (*get_args(GiveUpReason), DEAD)
_BEGINNING: Final = (-1, 0)


@dataclass(frozen=True, slots=True)
class Heads:
    """Of the logs of give-ups and of intents, by partition; None: no bound."""

    gave_up: Sequence[int] | None
    intent: Sequence[int] | None


_NO_HEADS: Final = Heads(None, None)


class DeadLetterService:
    """Lists dead letters, and puts them back."""

    def __init__(self, database: Database, codec: Codec) -> None:
        """Look and change through `database`."""
        self._database = database
        self._codec = codec

    async def list(
        self,
        *,
        reason: str | None = None,
        after: ModelDeadLetter | None = None,
        limit: int = 100,
        before: Heads | None = None,
    ) -> list[ModelDeadLetter]:
        """Return a page of dead letters behind `after`: actions first, then effects.

        Without a `reason`: what is broken (`reducer_error`, `invalid`, and dead effects). With
        `before`, only those that lie before these heads.

        Raises:
            ConfigurationError: there is no such reason.
        """
        if reason is not None and reason not in REASONS:
            message = f"there is no reason {reason!r}: {', '.join(REASONS)}"
            raise ConfigurationError(message)
        found: list[ModelDeadLetter] = []
        heads = before or _NO_HEADS
        reasons = BROKEN if reason is None else (reason,)
        if reason != DEAD and (after is None or after.kind == "action"):
            place = _BEGINNING if after is None else (after.partition, after.offset)
            rows = await self._database.fetch(
                SQL["list_actions"], list(reasons), *place, limit, heads.gave_up
            )
            found += [_action_letter(row) for row in rows]
        if reason in (None, DEAD) and len(found) < limit:
            behind = after is not None and after.kind == "effect"
            place = (after.partition, after.offset) if after and behind else _BEGINNING
            room = limit - len(found)
            rows = await self._database.fetch(SQL["list_effects"], *place, room, heads.intent)
            found += [_effect_letter(row) for row in rows]
        return found

    async def pages(
        self, *, reason: str | None = None, size: int = PAGE
    ) -> AsyncIterator[Sequence[ModelDeadLetter]]:
        """Yield all that are dead letters now, in pages of up to `size` (R13).

        What is given up from now on is in none of them: who redrives them meanwhile does not meet
        again what is given up again.

        Raises:
            ConfigurationError: there is no such reason.
        """
        row = await self._database.fetchrow(SQL["heads"])
        assert row is not None, "it is an aggregate"
        heads = Heads(row["gave_up"], row["intent"])
        last: ModelDeadLetter | None = None
        while page := await self.list(reason=reason, after=last, limit=size, before=heads):
            yield page
            last = page[-1]

    async def find(self, letter_id: UUID) -> Sequence[ModelDeadLetter]:
        """Return the dead letters of an id, whatever their reason: one a key, or an effect."""
        actions = await self._database.fetch(SQL["find_actions"], letter_id)
        effects = await self._database.fetch(SQL["find_effect"], letter_id)
        return [_action_letter(row) for row in actions] + [_effect_letter(row) for row in effects]

    def redriven_action(self, letter: ModelDeadLetter) -> SealedAction:
        """Return the action of a letter as it is to be sent again, remembered for ever.

        Each call makes another redrive of it, with an answer of its own to who asked.

        Raises:
            ConfigurationError: its payload was not kept, because the database refuses it.
        """
        fields = letter.body["action"]
        if "payload" not in fields:
            message = f"{letter.id}: its payload could not be stored, so it cannot be sent again"
            raise ConfigurationError(message)
        action = wire.read_action(fields, self._codec)
        return replace(action, purpose="redrive", due_at=None, remember_s=None, redrive_id=uuid4())

    async def redrive_effect(self, letter: ModelDeadLetter) -> bool:
        """Let a dead effect be tried again; return whether it still was dead."""
        was_dead: bool = await self._database.fetchval(
            SQL["redrive_effect"], letter.partition, letter.id
        )
        return was_dead


def _action_letter(row: Any) -> ModelDeadLetter:  # noqa: ANN401 - asyncpg ships no types
    body = orjson.loads(row["body"])
    action_id = plain_uuid(row["action_id"])
    return ModelDeadLetter(
        kind="action",
        id=action_id,
        workflow_key=row["workflow_key"],
        type=body["action"]["type"],
        reason=body["reason"],
        detail=body["detail"],
        attempts=body["attempts"],
        at=row["given_up_at"],
        action_id=action_id,
        reply_to=body["action"].get("reply_to"),
        partition=row["partition"],
        offset=row["offset"],
        body=body,
    )


def _effect_letter(row: Any) -> ModelDeadLetter:  # noqa: ANN401 - asyncpg ships no types
    body = orjson.loads(row["body"])
    return ModelDeadLetter(
        kind="effect",
        id=plain_uuid(row["intent_id"]),
        workflow_key=row["workflow_key"],
        type=row["intent_type"],
        reason=DEAD,
        detail=row["detail"],
        attempts=row["attempts"],
        at=row["due_at"],
        action_id=plain_uuid(row["action_id"]),
        reply_to=body.get("reply_to"),
        partition=row["partition"],
        offset=row["offset"],
        body={"target": row["target"], **body},
    )
