"""What each topic has to be like: how many partitions, how long messages stay, how large they are.

Rule 1: our topics have as many partitions as the database, for a key's partition there is its
        partition here.
Rule 2: nothing is removed by the broker that might not have been read, and nothing is compacted: a
        key's history is all of its messages, and not the last one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from omninode_bridge.core.errors import TopicUnfit
from omninode_bridge.core.topics import (
    ACTION,
    DEAD_LETTER,
    FSM_STATE_TRANSITIONED,
    PERSIST_ANSWERED,
    PERSIST_STATE,
    REDUCER_GAVE_UP,
    STATE_COMMITTED,
    STATE_CONFLICT,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

FOR_EVER: Final = -1
HOUR_MS: Final = 3600 * 1000
DAY_MS: Final = 24 * HOUR_MS

ACTION_BYTES_MAX: Final = 3 * 1_048_576
"""A payload as it may be written with white space (2 MiB), and room for its headers."""

EVENT_BYTES_MAX: Final = 4 * 1_048_576
"""A payload and a projection's two parts have 1 MiB each."""

DEAD_LETTER_BYTES_MAX: Final = 12 * 1_048_576
"""Of what is put aside; more of a message than this is cut off."""

PERSIST_BYTES_MAX: Final = 48 * 1_048_576
"""A batch: an action with its payload, state, projection and intents may alone have 35 MiB."""

RETENTION: Final = "retention.ms"
RETENTION_BYTES: Final = "retention.bytes"
CLEANUP: Final = "cleanup.policy"
SIZE: Final = "max.message.bytes"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as the bridge needs it. `retention_ms` is -1 for ever."""

    name: str
    partitions: int
    retention_ms: int
    message_bytes_max: int

    def settings(self) -> dict[str, str]:
        """Return the settings with which it is made."""
        return {
            CLEANUP: "delete",
            RETENTION: str(self.retention_ms),
            RETENTION_BYTES: str(FOR_EVER),
            SIZE: str(self.message_bytes_max),
        }

    def check(self, partitions: int, settings: Mapping[str, str]) -> None:
        """Return when a topic of so many partitions, with these settings, will do.

        Raises:
            TopicUnfit: it would mix up keys, lose messages or refuse them.
        """
        if partitions != self.partitions:
            raise TopicUnfit(
                *(self.name, "the number of partitions", str(partitions), str(self.partitions)),
                "The order of a key depends on it: delete the topic once what it holds is needed no"
                " more, and the bridge makes it; a database's number is fixed.",
            )
        if settings[CLEANUP] != "delete":
            raise self._unfit(settings, CLEANUP, "delete")
        for setting, needed in ((RETENTION, self.retention_ms), (RETENTION_BYTES, FOR_EVER)):
            if not _keeps(int(settings[setting]), needed):
                raise self._unfit(settings, setting, _or_more(needed))
        if int(settings[SIZE]) < self.message_bytes_max:
            raise self._unfit(settings, SIZE, f"{self.message_bytes_max} or more")

    def _unfit(self, settings: Mapping[str, str], setting: str, needed: str) -> TopicUnfit:
        value = self.settings()[setting]
        advice = (
            f"Change it: kafka-configs.sh --alter --entity-type topics --entity-name {self.name}"
            f" --add-config {setting}={value}"
        )
        return TopicUnfit(self.name, setting, settings[setting], needed, advice)


def topic_specs(partitions: int, prefix: str = "") -> tuple[TopicSpec, ...]:
    """Return all topics of a database with so many partitions.

    `prefix` stands before each name, for several databases on one cluster.
    """
    limits = {
        ACTION: (FOR_EVER, ACTION_BYTES_MAX),
        STATE_COMMITTED: (FOR_EVER, EVENT_BYTES_MAX),
        REDUCER_GAVE_UP: (FOR_EVER, EVENT_BYTES_MAX),
        FSM_STATE_TRANSITIONED: (FOR_EVER, EVENT_BYTES_MAX),
        STATE_CONFLICT: (DAY_MS, ACTION_BYTES_MAX),
        PERSIST_STATE: (HOUR_MS, PERSIST_BYTES_MAX),
        PERSIST_ANSWERED: (HOUR_MS, EVENT_BYTES_MAX),
        DEAD_LETTER: (FOR_EVER, DEAD_LETTER_BYTES_MAX),
    }
    return tuple(TopicSpec(prefix + name, partitions, *each) for name, each in limits.items())


def _keeps(actual: int, needed: int) -> bool:
    return actual == FOR_EVER or (needed != FOR_EVER and actual >= needed)


def _or_more(needed: int) -> str:
    return "-1 (for ever)" if needed == FOR_EVER else f"{needed} or more, or -1"
