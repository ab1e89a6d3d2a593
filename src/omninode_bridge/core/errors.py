"""Every error this package raises, in one tree.

    BridgeError
    ├── InvalidAction            the asker's fault: this action can never be stored
    ├── GaveUp                   an outcome that was not a commit, raised by `.committed()`
    │   └── RunIdReused          another run has this id: another contract, or another input
    ├── OutcomeUnknown           no answer in time: committed or not, ask again by the same id
    │   ├── OutcomeNotAwaited    durable, but too many wait here for what is due later
    │   └── RunUnknown           a run has not ended in time: it goes on
    ├── RunFailed                a run that did not complete, raised by `.completed()`
    ├── TooManyWaiting           the bus has no room for one more who waits for an event
    ├── VersionNotReached        a read demanded a version that nobody has committed yet
    ├── BridgeClosed             asked after the bridge was closed, or while it closes
    ├── EffectRefused            raised by an effect's handler: trying again will not help
    ├── ConfigurationError       what the user declared or set cannot work
    │   ├── ContractError        a contract that cannot work, with the line to change
    │   └── TopicUnfit           a topic of the bus that is there is not as the bridge needs it
    ├── DatabaseUnavailable      PostgreSQL cannot be reached; the loops go on trying
    │   └── StoreEffectSilent    nobody has answered a commit that was sent by the bus
    ├── DatabaseRefused          PostgreSQL refused a statement; trying again will not help
    │   └── ValueRefused         because of a value in it (SQLSTATE class 22 or 54)
    ├── BusUnavailable           Kafka cannot be reached or does not answer; the loops go on trying
    ├── BusRefused               Kafka refused a call or a message; trying again will not help
    │   └── CommitTooLarge       a batch to be committed elsewhere is too large for a message
    ├── PartitionsChanged        the number of partitions was changed: open the bridge anew
    ├── OwnershipLost            another process has the partition: who worked there stops
    └── BrokenPromise            stored data contradicts a promise: stop and look
        ├── TopicReplaced        a topic of the bus is not the one that positions were stored for
        └── MessagesLost         the bus no longer has messages that were never read

Rule 1: errors carry fields; nobody has to parse their sentences.
Rule 2: what we expect (a conflict, a rejection, a give-up) is a value, not an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID


class BridgeError(Exception):
    """The root of every error of this package."""


class InvalidAction(BridgeError, ValueError):
    """An action that can never be stored, refused before it reached a partition.

    `field` names the part that is wrong (`workflow_key`, `payload`, ...), `detail` says why.
    """

    def __init__(self, field: str, detail: str) -> None:
        """Name the wrong `field` and why."""
        super().__init__(f"invalid {field}: {detail}")
        self.field = field
        self.detail = detail


class GaveUp(BridgeError):
    """`.committed()` was asked of an action that was given up; `reason` and `detail` say why."""

    def __init__(self, workflow_key: str, action_id: UUID, reason: str, detail: str) -> None:
        """Repeat the outcome's fields."""
        super().__init__(f"{workflow_key}: action {action_id} was given up ({reason}): {detail}")
        self.workflow_key = workflow_key
        self.action_id = action_id
        self.reason = reason
        self.detail = detail


class RunIdReused(GaveUp):
    """A run of this id was started with another contract or input; that one goes on untouched."""

    def __init__(self, workflow_id: str, workflow_key: str, action_id: UUID) -> None:
        """`action_id` is the one that would have started the run."""
        detail = (
            f"run {workflow_id} was already started with another contract or input. Choose another"
            " workflow_id, or ask with the contract and the input that it was started with"
        )
        super().__init__(workflow_key, action_id, "id_reused", detail)
        self.args = (detail,)
        self.workflow_id = workflow_id


class OutcomeUnknown(BridgeError, TimeoutError):
    """No answer in time (R9). The action may still commit: submit it again under the same id."""

    def __init__(self, workflow_key: str, action_id: UUID, waited_s: float) -> None:
        """Carry what is needed to ask again."""
        super().__init__(
            f"{workflow_key}: no outcome of action {action_id} within {waited_s:g} s. It may still"
            " commit: submit it again with the same action_id to learn its outcome.",
        )
        self.workflow_key = workflow_key
        self.action_id = action_id
        self.waited_s = waited_s


class OutcomeNotAwaited(OutcomeUnknown):
    """An action with a `due_at` is durable, but as many wait for such as there is room for (R13).

    Submit it again under the same id when it is due; who need not wait has `enqueue`.
    """

    def __init__(self, workflow_key: str, action_id: UUID, waiting_max: int) -> None:
        """Carry the bound, and what is needed to ask again."""
        super().__init__(workflow_key, action_id, 0)
        message = (
            f"{workflow_key}: action {action_id} is durable and will be applied when it is due, but"
            f" {waiting_max} wait here for actions with a due_at, which is all there is room for."
            " Submit it again with the same action_id when it is due to learn its outcome, or use"
            " enqueue, which does not wait."
        )
        self.args = (message,)
        self.waiting_max = waiting_max


class RunUnknown(OutcomeUnknown):
    """A run has not ended in time. It goes on: ask for it again under the same `workflow_id`."""

    def __init__(
        self, workflow_id: str, workflow_key: str, action_id: UUID, waited_s: float
    ) -> None:
        """Carry what is needed to ask again; `action_id` is the one that starts the run."""
        super().__init__(workflow_key, action_id, waited_s)
        message = (
            f"run {workflow_id}: it has not ended within {waited_s:g} s. It goes on, whoever waits:"
            " ask for it again under the same workflow_id."
        )
        self.args = (message,)
        self.workflow_id = workflow_id


class RunFailed(BridgeError):
    """`.completed()` was asked of a run that has not completed; `status` and `detail` say why."""

    def __init__(self, workflow_id: str, status: str, detail: str) -> None:
        """Repeat the run's fields."""
        super().__init__(f"run {workflow_id} is {status}: {detail}")
        self.workflow_id = workflow_id
        self.status = status
        self.detail = detail


class TooManyWaiting(BridgeError):
    """As many wait for events as the bus lets (R13): wait for some to be told, then ask again."""

    def __init__(self, waiting_max: int) -> None:
        """Carry the bound."""
        super().__init__(
            f"{waiting_max} wait for events already, which is all there is room for: ask again when"
            " some of them have been told"
        )
        self.waiting_max = waiting_max


class VersionNotReached(BridgeError):
    """A read demanded a version that the key has not reached (R8)."""

    def __init__(self, workflow_key: str, required_version: int, actual_version: int) -> None:
        """Carry both versions."""
        super().__init__(
            f"{workflow_key}: version {required_version} was required, but the key is at"
            f" {actual_version}. Nothing has committed the required version yet.",
        )
        self.workflow_key = workflow_key
        self.required_version = required_version
        self.actual_version = actual_version


class BridgeClosed(BridgeError):
    """The bridge is closed, or closing: it takes no more work."""


class EffectRefused(BridgeError):
    """For an effect's handler to raise: the effect is dead at once, with this as its reason.

    It says as well that this attempt did not do it.
    """


class ConfigurationError(BridgeError):
    """What the user declared or set cannot work; the message says what to change."""


class ContractError(ConfigurationError):
    """A contract that cannot work: `FILE:LINE: what is wrong and what to do`."""

    def __init__(self, file: str, line: int, detail: str) -> None:
        """`line` counts from 1."""
        super().__init__(f"{file}:{line}: {detail}")
        self.file = file
        self.line = line
        self.detail = detail


class TopicUnfit(ConfigurationError):
    """A topic of the bus is there, and what is set for it would lose, mix up or refuse messages.

    `setting` has the value `actual`, and the bridge needs `needed`.
    """

    def __init__(self, topic: str, setting: str, actual: str, needed: str, advice: str) -> None:
        """Name what to change."""
        super().__init__(
            f"topic {topic}: {setting} is {actual}, and the bridge needs {needed}. {advice}"
        )
        self.topic = topic
        self.setting = setting
        self.actual = actual
        self.needed = needed


class DatabaseUnavailable(BridgeError):
    """PostgreSQL cannot be reached, or the connection was lost in the middle of a call.

    After a commit this means *unknown*: the database may or may not have done it.
    """


class StoreEffectSilent(DatabaseUnavailable):
    """No store effect has answered in time: whether it has committed is *unknown*."""

    def __init__(self, partition: int, detail: str) -> None:
        """Say of the commits of `partition` what is known."""
        super().__init__(
            f"the commits of partition {partition} that were sent by the bus: {detail}"
        )
        self.partition = partition


class DatabaseRefused(BridgeError):
    """PostgreSQL refused a statement, for a reason that will still be there next time."""

    def __init__(self, sqlstate: str, detail: str) -> None:
        """Keep the SQLSTATE and the server's words."""
        super().__init__(f"the database refused (SQLSTATE {sqlstate}): {detail}")
        self.sqlstate = sqlstate
        self.detail = detail


class ValueRefused(DatabaseRefused):
    """PostgreSQL refused a value (SQLSTATE class 22 or 54); nothing was written."""


class BusUnavailable(BridgeError):
    """Kafka cannot be reached, or has not answered in time.

    After sending this means *unknown*: the messages may or may not be there.
    """


class BusRefused(BridgeError):
    """Kafka refused a call or a message, for a reason that will still be there next time."""

    def __init__(self, what: str, code: str, detail: str) -> None:
        """Say `what` was refused; `code` is the name Kafka has for the reason."""
        super().__init__(f"Kafka refused {what} ({code}): {detail}")
        self.code = code
        self.detail = detail


class CommitTooLarge(BusRefused):
    """A batch that is to be committed elsewhere is too large for a message; it was not sent."""

    def __init__(self, size: int, size_max: int) -> None:
        """Say how many bytes it has, and how many it may have."""
        detail = f"{size} bytes; {size_max} are allowed"
        super().__init__("a batch of commits", "MSG_SIZE_TOO_LARGE", detail)


class OwnershipLost(BridgeError):
    """The partition belongs to another process now, or its log has moved without us (R12)."""

    def __init__(self, partition: int, what: str) -> None:
        """Say of `partition` `what` has happened to it."""
        super().__init__(f"partition {partition} {what}")
        self.partition = partition


class PartitionsChanged(BridgeError):
    """The number of partitions was changed while a bridge was open; nothing was written.

    What that bridge knows of partitions and offsets means something else now: open it anew.
    """

    def __init__(self) -> None:
        """Say what to do."""
        super().__init__(
            "the number of partitions of this database was changed while this bridge was open: it"
            " can make nothing durable any more. Close it and open it anew."
        )


class BrokenPromise(BridgeError):
    """Stored data contradicts a promise (a position behind a cut, a watermark going back).

    It is never repaired silently: stop, look, and decide.
    """


class TopicReplaced(BrokenPromise):
    """A topic of the bus was deleted and made again, or belongs to another cluster.

    What was in the old one and had not been read is gone, and the positions that are stored say
    nothing about the new one. `stored` and `actual` are `cluster id/topic id`.
    """

    def __init__(self, topic: str, stored: str, actual: str) -> None:
        """Carry both."""
        super().__init__(
            f"topic {topic} is {actual} now, and the positions that are stored were for {stored}:"
            " it was deleted and made again, or this is another cluster. What had not been read of"
            " the old one is gone. Find out what is missing; then forget the positions"
            f" (`omninode-bridge bus forget {topic}`), and the new topic is begun from its"
            " beginning."
        )
        self.topic = topic
        self.stored = stored
        self.actual = actual


class MessagesLost(BrokenPromise):
    """A partition of a topic begins behind the position, or ends before it."""

    def __init__(self, topic: str, partition: int, position: int, detail: str) -> None:
        """Carry what is needed to look for them."""
        super().__init__(
            f"topic {topic}, partition {partition}: position {position} is not in it ({detail})."
            " Messages were deleted before they were read, or the log was cut. Find out what is"
            f" missing; then forget the positions (`omninode-bridge bus forget {topic}`), and the"
            " topic is begun from what is left of it."
        )
        self.topic = topic
        self.partition = partition
        self.position = position
