"""How an open bridge takes actions: waited for, by the thousand, or only made durable."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from omninode_bridge.app.clock import now
from omninode_bridge.app.looking import Looking
from omninode_bridge.app.sealing import REMEMBER_FOR, Sealer
from omninode_bridge.app.settling import Settling
from omninode_bridge.core.errors import (
    BridgeClosed,
    ConfigurationError,
    OutcomeNotAwaited,
    OutcomeUnknown,
)
from omninode_bridge.services.event_log import ActionLogService

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from omninode_bridge.app.declaring import App
    from omninode_bridge.app.sealing import Handed
    from omninode_bridge.core.message import Outcome, SealedAction
    from omninode_bridge.core.partition import Partitioning
    from omninode_bridge.host import PartitionHost
    from omninode_bridge.infrastructure.entities import ModelDeadLetter
    from omninode_bridge.infrastructure.postgres.database import Database

TIMEOUT_S: Final = 5.0


class Asking(Looking):
    """A bridge as whoever asks it for something sees it."""

    def __init__(self, app: App, database: Database, partitioning: Partitioning) -> None:
        """Nothing is taken before there is a host, or after the bridge is closed."""
        super().__init__(app, database, partitioning)
        self._sealer = Sealer(self._key_types, self._codec)
        self._settling = Settling(self.event_log, app.effect_types())
        self._host: PartitionHost | None = None
        self._closed = False

    async def submit(
        self,
        key: str,
        type: str,  # noqa: A002 - the design's word
        payload: Mapping[str, Any],
        *,
        action_id: UUID | None = None,
        expected_version: int | None = None,
        remember_for: timedelta | None = REMEMBER_FOR,
        timeout: float = TIMEOUT_S,  # noqa: ASYNC109 - the outcome is unknown then, not cancelled
        occurred_at: datetime | None = None,
        epoch: int | None = None,
        lease_id: UUID | None = None,
        correlation_id: UUID | None = None,
        reply_to: str | None = None,
        due_at: datetime | None = None,
    ) -> Outcome:
        """Submit one action and return its outcome; wait at most `timeout` seconds.

        `action_id` makes a retry safe: the same id on the same key gets the first outcome, for
        `remember_for` (None: for ever). `expected_version` demands the key's version (0: never
        seen); if it is past, the action is given up with the reason `conflict`. `reply_to` is a
        workflow key that is told the outcome by a follow-up action. With `due_at` the action is
        durable at once and applied then, by the database's clock: it has `timeout` seconds to
        become durable, and as many to be answered from then on.

        Raises:
            InvalidAction: it can never be stored; `field` says what is wrong.
            OutcomeUnknown: no answer in time; it may still commit. Ask again under the same id.
            OutcomeNotAwaited: it has a `due_at` and is durable, but too many wait for such.
            BridgeClosed: the bridge is closed, or opened for reading.
        """
        action = self._sealer.seal(
            key,
            type,
            payload,
            action_id=action_id,
            expected_version=expected_version,
            remember_for=remember_for,
            occurred_at=occurred_at,
            epoch=epoch,
            lease_id=lease_id,
            correlation_id=correlation_id,
            reply_to=reply_to,
            due_at=due_at,
        )
        host = self._writing()
        future = host.submit_now(action)
        if future is None:
            try:
                async with asyncio.timeout(timeout) as limit:
                    future = await host.submit(action)
                    if action.due_at is not None:  # it is durable now
                        timeout += max(0.0, (action.due_at - now()).total_seconds())
                        limit.reschedule(asyncio.get_running_loop().time() + timeout)
                    return await future
            except OutcomeNotAwaited:
                raise
            except TimeoutError as error:
                raise OutcomeUnknown(key, action.action_id, timeout) from error
        # What asyncio.timeout does, at a third of its cost: this is the way of nearly every ask.
        expiry = asyncio.get_running_loop().call_later(timeout, _expire, future, action, timeout)
        try:
            return await future
        finally:
            expiry.cancel()

    async def submit_many(
        self,
        actions: Iterable[Handed],
        *,
        remember_for: timedelta | None = REMEMBER_FOR,
        timeout: float = TIMEOUT_S,  # noqa: ASYNC109 - as submit
    ) -> list[Outcome]:
        """Submit many in one call and return their outcomes in order.

        Those of one key are applied in the order given (R5). All are checked before the first is
        handed over. `timeout` is for each to be answered once the one before it was.

        Raises:
            InvalidAction, OutcomeUnknown, BridgeClosed: as `submit`; OutcomeUnknown names the first
            action without an answer, and the later ones may have committed too.
        """
        sealed = [self._sealer.seal_handed(handed, remember_for) for handed in actions]
        futures = await self._hand_over(sealed, timeout)
        outcomes: list[Outcome] = []
        for action, future in zip(sealed, futures, strict=True):
            if future.done():  # most come in the same batch as the one before
                outcomes.append(future.result())
                continue
            try:
                async with asyncio.timeout(timeout):
                    outcomes.append(await future)
            except TimeoutError as error:
                raise OutcomeUnknown(action.workflow_key, action.action_id, timeout) from error
        return outcomes

    async def hand_over(
        self, actions: Iterable[Handed], *, remember_for: timedelta | None = REMEMBER_FOR
    ) -> Sequence[asyncio.Future[Outcome]]:
        """Hand many over, and return the futures of their outcomes in order without waiting.

        For who keeps several calls under way: when the next call is made after this one has
        returned, the actions of both are applied in the order given, for each key. All are checked
        before the first is handed over. Waits while the inbox of a partition is full.

        Raises:
            InvalidAction, BridgeClosed: as `submit`.
        """
        return await self._hand_over([self._sealer.seal_handed(h, remember_for) for h in actions])

    def check(self, action: Handed) -> None:
        """Find out whether `action` could be submitted, without doing so.

        Raises:
            InvalidAction: as `submit`.
        """
        self._sealer.seal_handed(action, REMEMBER_FOR)

    async def enqueue(
        self,
        key: str,
        type: str,  # noqa: A002 - the design's word
        payload: Mapping[str, Any],
        *,
        action_id: UUID | None = None,
        expected_version: int | None = None,
        remember_for: timedelta | None = REMEMBER_FOR,
        occurred_at: datetime | None = None,
        correlation_id: UUID | None = None,
        reply_to: str | None = None,
        due_at: datetime | None = None,
    ) -> UUID:
        """Return the action's id as soon as it is durable in the log, before it is reduced.

        With `due_at` it is reduced then, by the database's clock, and not before.

        Raises:
            InvalidAction: it can never be stored.
            DatabaseUnavailable: it may or may not be durable; enqueue it again under the same id.
        """
        action = self._sealer.seal(
            key,
            type,
            payload,
            action_id=action_id,
            expected_version=expected_version,
            remember_for=remember_for,
            occurred_at=occurred_at,
            correlation_id=correlation_id,
            reply_to=reply_to,
            due_at=due_at,
        )
        await self._writing().enqueue(action)
        return action.action_id

    async def settled(self, timeout: float = 60.0) -> None:  # noqa: ASYNC109 - a bound, not a race
        """Return when all that was committed or enqueued until now is done with.

        Follow-up actions are dispatched and reduced (and theirs), and the projection shows it all,
        however much is asked meanwhile. Effects that have a handler here are done or dead, however
        often they have to be tried; those whose `due_at` has not come are not waited for.

        Raises:
            TimeoutError: it took longer than `timeout` seconds.
            BrokenPromise: a loop has stopped for good.
        """
        await self._settling.settled(self._writing(), timeout)

    async def redrive(self, letter: ModelDeadLetter, *, force: bool = False) -> bool:
        """Put a dead letter back, durably; return whether that was to be done.

        An action is applied under its own id: the commit replaces the give-up that is remembered,
        so twice redriven is once applied. An effect is tried again from its first attempt on. A
        bridge that only reads may do this; whoever runs the reducers and handlers does the rest.

        What a run asked for is refused unless it is forced: the run asks again itself, under
        another id, and the step would be done twice; or it has failed, and nobody would undo it.

        Raises:
            ConfigurationError: a run asked for it, or the payload of an action was not kept.
        """
        if letter.is_of_run and not force:
            message = (
                f"{letter.id} was asked for by {letter.reply_to}: what becomes of it is that run's"
                " business. It may have asked again under another id, or be over, and nobody undoes"
                " what a redrive does. Look at the run first; force it if it is to be done still"
            )
            raise ConfigurationError(message)
        if letter.kind == "effect":
            return await self._dead_letters.redrive_effect(letter)
        action = self._dead_letters.redriven_action(letter)
        if self._host is not None and not self._closed:
            await self._host.enqueue(action)
        else:
            log = ActionLogService(self._database, self._codec, incarnation=self._incarnation)
            await log.append(letter.partition, [action])
        return True

    def _writing(self) -> PartitionHost:
        if self._host is None or self._closed:
            what = "is closed" if self._closed else "was opened for reading only"
            message = f"the bridge {what}: it takes no actions"
            raise BridgeClosed(message)
        return self._host

    async def _hand_over(
        self,
        sealed: Iterable[SealedAction],
        timeout: float | None = None,  # noqa: ASYNC109 - as submit
    ) -> Sequence[asyncio.Future[Outcome]]:
        host = self._writing()
        futures: list[asyncio.Future[Outcome]] = []
        for action in sealed:
            future = host.submit_now(action)
            if future is None:
                try:
                    async with asyncio.timeout(timeout):
                        future = await host.submit(action)
                except TimeoutError as error:
                    raise OutcomeUnknown(
                        action.workflow_key, action.action_id, timeout or 0
                    ) from error
            futures.append(future)
        return futures


def _expire(future: asyncio.Future[Outcome], action: SealedAction, waited_s: float) -> None:
    if not future.done():
        future.set_exception(OutcomeUnknown(action.workflow_key, action.action_id, waited_s))
