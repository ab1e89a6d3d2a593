"""An action is checked and sealed: what passes here can be stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from omninode_bridge.app.clock import new_action_id, now
from omninode_bridge.core.errors import InvalidAction
from omninode_bridge.core.message import (
    PAYLOAD_BYTES_MAX,
    Action,
    SealedAction,
    check_reply_to,
    check_workflow_key,
    key_type_of,
)
from omninode_bridge.core.reducer import check_action_type
from omninode_bridge.core.terms import check_count, check_id, check_remember_for, check_time

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime
    from uuid import UUID

    from omninode_bridge.core.reducer import Codec

REMEMBER_FOR: Final = timedelta(hours=6)

Handed = Action | tuple[str, str, Mapping[str, Any]]
"""What `submit_many` takes: an Action, or (key, type, payload)."""


class Sealer:
    """Seals actions on keys of certain types, with their payloads as canonical bytes."""

    def __init__(self, key_types: Collection[str], codec: Codec) -> None:
        """`key_types` are the names of those that have a reducer."""
        self._key_types = key_types
        self._codec = codec

    def seal_handed(self, handed: Handed, remember_for: timedelta | None) -> SealedAction:
        """Seal what `submit_many` takes.

        Raises:
            InvalidAction: it can never be stored; `field` says what is wrong.
        """
        if not isinstance(handed, Action):
            return self.seal(*handed, remember_for=remember_for)
        return self.seal(
            handed.workflow_key,
            handed.type,
            handed.payload,
            action_id=handed.action_id,
            remember_for=remember_for,
            occurred_at=handed.occurred_at,
            epoch=handed.epoch,
            lease_id=handed.lease_id,
            correlation_id=handed.correlation_id,
            causation_id=handed.causation_id,
            reply_to=handed.reply_to,
        )

    def seal(
        self,
        key: str,
        type: str,  # noqa: A002 - the design's word
        payload: Mapping[str, Any],
        *,
        action_id: UUID | None = None,
        expected_version: int | None = None,
        remember_for: timedelta | None = REMEMBER_FOR,
        occurred_at: datetime | None = None,
        epoch: int | None = None,
        lease_id: UUID | None = None,
        correlation_id: UUID | None = None,
        causation_id: UUID | None = None,
        reply_to: str | None = None,
        due_at: datetime | None = None,
    ) -> SealedAction:
        """Check everything about an action that can be checked before it is stored.

        Raises:
            InvalidAction: it can never be stored; `field` says what is wrong.
        """
        check_workflow_key(key)
        check_action_type(type)
        if key_type_of(key) not in self._key_types:
            known = ", ".join(sorted(self._key_types)) or "none"
            detail = f"no reducer is declared for {key_type_of(key)!r} (declared: {known})"
            raise InvalidAction("workflow_key", detail)
        if not isinstance(payload, Mapping):
            raise InvalidAction("payload", f"must be a JSON object, not {payload.__class__}")
        try:
            sealed = self._codec.encode(payload if isinstance(payload, dict) else dict(payload))
        except ValueError as error:
            raise InvalidAction("payload", str(error)) from error
        if len(sealed) > PAYLOAD_BYTES_MAX:
            detail = f"has {len(sealed)} bytes; {PAYLOAD_BYTES_MAX} are allowed"
            raise InvalidAction("payload", detail)
        if reply_to is not None:
            check_reply_to(reply_to)
        return SealedAction(
            new_action_id() if action_id is None else check_id("action_id", action_id),
            key,
            type,
            sealed,
            now() if occurred_at is None else check_time("occurred_at", occurred_at),
            None if epoch is None else check_count("epoch", epoch),
            None if lease_id is None else check_id("lease_id", lease_id),
            None if correlation_id is None else check_id("correlation_id", correlation_id),
            None if causation_id is None else check_id("causation_id", causation_id),
            0,
            reply_to,
            None if expected_version is None else check_count("expected_version", expected_version),
            None if remember_for is None else check_remember_for(remember_for),
            "apply",
            None if due_at is None else check_time("due_at", due_at),
        )
