"""Topics as a whole: made on start or found fit, told apart from those made again, trimmed.

Rule 1: a topic that is there is checked and never changed: whoever made it had reasons.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec
from confluent_kafka.cimpl import NewTopic

from omninode_bridge.core.errors import BridgeError, BusUnavailable
from omninode_bridge.infrastructure.kafka.translation import translated

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
    from concurrent.futures import Future

    from confluent_kafka.admin import TopicDescription

    from omninode_bridge.infrastructure.kafka.topic_specs import TopicSpec

CALL_TIMEOUT_S: Final = 10.0
MADE_WAIT_S: Final = 30.0
LOOK_S: Final = 0.05
REPLICAS_OF_BROKER: Final = -1

_W = TypeVar("_W")
_T = TypeVar("_T")


class KafkaAdmin:
    """Asks a cluster about its topics. The library answers on its own threads, by futures.

    Whoever asks holds the client until it has answered: it ends when nobody holds it.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        replicas: int = REPLICAS_OF_BROKER,
        call_timeout_s: float = CALL_TIMEOUT_S,
    ) -> None:
        """`settings` are the library's; `replicas` is for new topics: the broker's own number."""
        self._settings_of_client = dict(settings)
        self._client = AdminClient(self._settings_of_client)
        self._replicas = replicas
        self._timeout_s = call_timeout_s
        self._cluster_id: str | None = None
        self._held: list[AdminClient] = []

    async def __aenter__(self) -> Self:
        """Learn which cluster this is."""
        await self.cluster_id()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Nothing to close: the client ends when nobody holds it."""

    async def cluster_id(self) -> str:
        """Return the id of the cluster.

        Raises:
            BusUnavailable: nobody answers.
        """
        if self._cluster_id is None:
            with translated("asking for the cluster"):
                client = self._client
                answer = client.describe_cluster(request_timeout=self._timeout_s)
                cluster = await asyncio.wrap_future(answer)
            self._cluster_id = str(cluster.cluster_id)
        return self._cluster_id

    async def ensure(self, specs: Sequence[TopicSpec]) -> None:
        """Make the topics that are missing, check those that are there; wait for their leaders.

        Raises:
            TopicUnfit: one that is there is not as we need it. None was changed.
            BusUnavailable: no answer, or no leader within 30 s.
            BusRefused: one of them may not be made.
        """
        await self._make(specs)
        found = await self._led([spec.name for spec in specs])
        settings = await self._once_known(specs, self._settings)
        for spec in specs:
            spec.check(len(found[spec.name].partitions), settings[spec.name])
        # A leader is told of before it has heard that it is one.
        await self._once_known(specs, self._lows)

    async def is_there(self, topic: str) -> bool:
        """Return whether there is such a topic.

        Raises:
            BusUnavailable: nobody knows.
        """
        try:
            await self._describe([topic])
        except BusUnavailable as error:
            if not _is(error.__cause__, KafkaError.UNKNOWN_TOPIC_OR_PART):
                raise
            return False
        return True

    async def delete(self, topics: Collection[str]) -> None:
        """Delete topics and all that is in them; those that are not there are gone already.

        Raises:
            BusUnavailable, BusRefused: some may be left.
        """
        client = self._client
        answers = client.delete_topics(list(topics), request_timeout=self._timeout_s)
        for name, answer in answers.items():
            try:
                with translated(f"deleting topic {name}"):
                    await asyncio.wrap_future(answer)
            except BusUnavailable as error:
                if not _is(error.__cause__, KafkaError.UNKNOWN_TOPIC_OR_PART):
                    raise

    async def incarnations(self, topics: Collection[str]) -> dict[str, str]:
        """Return `cluster id/topic id` of each topic as it is now.

        Raises:
            BusUnavailable: no answer, or one of them is not there.
        """
        cluster_id = await self.cluster_id()
        described = await self._describe(topics)
        return {name: f"{cluster_id}/{each.topic_id}" for name, each in described.items()}

    def ask_incarnation(self, topic: str, told: Callable[[str | BridgeError], None]) -> None:
        """Have `told` called with the incarnation of a topic as it is now, or why nobody knows.

        For who asks often, in the context of this client: it takes two turns of the loop, where
        `incarnations` takes five.
        """
        assert self._cluster_id is not None, "the cluster's id is learned by entering the context"
        loop, client = asyncio.get_running_loop(), self._client
        self._held.append(client)

        def tell(said: str | BridgeError) -> None:
            self._held.remove(client)
            told(said)

        def answered(answer: Future[TopicDescription]) -> None:  # on the library's thread
            with suppress(RuntimeError):  # the loop has ended, and all who waited with it
                loop.call_soon_threadsafe(tell, self._incarnation_said(topic, answer))

        names = TopicCollection([topic])
        try:
            with translated(f"asking for topic {topic}"):
                answers = client.describe_topics(names, request_timeout=self._timeout_s)
        except BridgeError as error:
            loop.call_soon(tell, error)
        else:
            answers[topic].add_done_callback(answered)

    def _incarnation_said(self, topic: str, answer: Future[TopicDescription]) -> str | BridgeError:
        try:
            with translated(f"asking for topic {topic}"):
                return f"{self._cluster_id}/{answer.result().topic_id}"
        except BridgeError as error:
            return error

    async def bounds(self, topic: str, partitions: Collection[int]) -> dict[int, tuple[int, int]]:
        """Return for each partition the first offset that is there, and the next one it will give.

        Raises:
            BusUnavailable: no answer, or the topic is not there.
        """
        first, following = [
            await self._offsets(topic, partitions, of) for of in (_earliest(), _latest())
        ]
        return {partition: (first[partition], following[partition]) for partition in partitions}

    async def told_position(self, group: str, topic: str, partition: int) -> int | None:
        """Return the position that was told to those who look at the lag of `group`, if any."""
        asked = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, partition)])
        with translated(f"asking for the positions of {group}"):
            client = self._client
            answers = client.list_consumer_group_offsets([asked], request_timeout=self._timeout_s)
            (found,) = await asyncio.gather(*map(asyncio.wrap_future, answers.values()))
        (place,) = found.topic_partitions
        return place.offset if place.offset >= 0 else None

    async def _offsets(
        self, topic: str, partitions: Collection[int], of: OffsetSpec
    ) -> dict[int, int]:
        asked = {TopicPartition(topic, partition): of for partition in partitions}
        client = self._client
        try:
            with translated(f"asking for the offsets of {topic}"):
                answers = client.list_offsets(asked, request_timeout=self._timeout_s)
                found = await asyncio.gather(*map(asyncio.wrap_future, answers.values()))
        except BusUnavailable:
            await self._replace(client)
            raise
        places = [place.partition for place in answers]
        return dict(zip(places, (each.offset for each in found), strict=True))

    async def trim(self, topic: str, partition: int, position: int) -> None:
        """Delete the messages of a partition before `position`.

        Raises:
            BusUnavailable, BusRefused: they may still be there.
        """
        client = self._client
        try:
            with translated(f"deleting from {topic}/{partition}"):
                answers = client.delete_records(
                    [TopicPartition(topic, partition, position)], request_timeout=self._timeout_s
                )
                await asyncio.gather(*map(asyncio.wrap_future, answers.values()))
        except BusUnavailable:
            await self._replace(client)
            raise

    async def _replace(self, client: AdminClient) -> None:
        """Ask by a new client from now on.

        One that has learned who leads a partition asks by the leader's epoch of then. After a
        restart of the broker that is refused, for minutes: it does not learn anew by itself.
        """
        if self._client is client:
            self._client = AdminClient(self._settings_of_client)

    async def _make(self, specs: Sequence[TopicSpec]) -> None:
        missing = await self._missing(specs)
        if not missing:
            return
        topics = [
            NewTopic(
                spec.name,
                num_partitions=spec.partitions,
                replication_factor=self._replicas,
                config=spec.settings(),
            )
            for spec in missing
        ]
        client = self._client
        answers = client.create_topics(topics, request_timeout=self._timeout_s)
        for name, answer in answers.items():
            try:
                with translated(f"making topic {name}"):
                    await asyncio.wrap_future(answer)
            except Exception as error:
                # Another process has made it at this moment: it is checked like any other.
                if not _is(error.__cause__, KafkaError.TOPIC_ALREADY_EXISTS):
                    raise

    async def _missing(self, specs: Sequence[TopicSpec]) -> list[TopicSpec]:
        return [spec for spec in specs if not await self.is_there(spec.name)]

    async def _led(self, topics: Sequence[str]) -> dict[str, TopicDescription]:
        """Return the topics once each of their partitions has a leader: before, none takes."""
        try:
            async with asyncio.timeout(MADE_WAIT_S):
                while True:
                    found = await self._once_known(topics, self._describe)
                    if all(_has_leaders(each) for each in found.values()):
                        return found
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            names = ", ".join(topics)
            message = f"no leader for each partition of {names} within {MADE_WAIT_S:g} s"
            raise BusUnavailable(message) from None

    async def _once_known(
        self, what: Sequence[_W], ask: Callable[[Sequence[_W]], Awaitable[dict[str, _T]]]
    ) -> dict[str, _T]:
        """Ask until the broker that answers knows of what has just been made, but not for ever."""
        attempts = round(MADE_WAIT_S / LOOK_S)
        while True:
            attempts -= 1
            try:
                return await ask(what)
            except BusUnavailable as error:
                if not attempts or not _answered(error.__cause__):
                    raise
            await asyncio.sleep(LOOK_S)

    async def _lows(self, specs: Sequence[TopicSpec]) -> dict[str, dict[int, int]]:
        return {
            spec.name: await self._offsets(spec.name, range(spec.partitions), _earliest())
            for spec in specs
        }

    async def _settings(self, specs: Sequence[TopicSpec]) -> dict[str, dict[str, str]]:
        resources = [ConfigResource(ConfigResource.Type.TOPIC, spec.name) for spec in specs]
        with translated("asking for the settings of topics"):
            client = self._client
            answers = client.describe_configs(resources, request_timeout=self._timeout_s)
            found = await asyncio.gather(*map(asyncio.wrap_future, answers.values()))
        return {
            spec.name: {name: str(entry.value) for name, entry in entries.items()}
            for spec, entries in zip(specs, found, strict=True)
        }

    async def _describe(self, topics: Collection[str]) -> dict[str, TopicDescription]:
        names = list(topics)
        with translated(f"asking for topic {', '.join(names)}"):
            client = self._client
            answers = client.describe_topics(
                TopicCollection(names), request_timeout=self._timeout_s
            )
            described = await asyncio.gather(*map(asyncio.wrap_future, answers.values()))
        return dict(zip(answers, described, strict=True))


def _has_leaders(topic: TopicDescription) -> bool:
    # Of a partition without one the library says None, whatever its types say, or a negative id.
    leaders = [getattr(each.leader, "id", -1) for each in topic.partitions]
    return bool(leaders) and min(leaders) >= 0


def _earliest() -> OffsetSpec:
    return OffsetSpec.earliest()  # type: ignore[no-untyped-call, no-any-return]


def _latest() -> OffsetSpec:
    return OffsetSpec.latest()  # type: ignore[no-untyped-call, no-any-return]


def _answered(error: BaseException | None) -> bool:
    """Return whether a broker said so: what the library itself finds has a code below zero."""
    return isinstance(error, KafkaException) and error.args[0].code() > 0


def _is(error: BaseException | None, code: int) -> bool:
    if not isinstance(error, KafkaException):
        return False
    found = error.args[0]
    return isinstance(found, KafkaError) and found.code() == code
