"""The one place where the client library's errors become ours."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, KafkaException

from omninode_bridge.core.errors import BusRefused, BusUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

_REFUSED: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.INVALID_REQUIRED_ACKS,
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.INVALID_PARTITIONS,
        KafkaError.INVALID_CONFIG,
        KafkaError.POLICY_VIOLATION,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_VERSION,
        KafkaError._INVALID_ARG,  # noqa: SLF001 - the library's own name for it
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    }
)
"""What will be refused again. All else may pass, even a missing topic: somebody may make it."""


def bus_error(what: str, error: KafkaError) -> BusUnavailable | BusRefused:
    """Return our error for the library's; `what` says what was tried."""
    if error.code() in _REFUSED:
        return BusRefused(what, error.name(), error.str())
    return BusUnavailable(f"{what}: {error.str()} ({error.name()})")


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn what the library raises into the errors of `core.errors`.

    Raises:
        BusUnavailable: it may pass.
        BusRefused: it will not.
    """
    try:
        yield
    except KafkaException as error:
        found = error.args[0]
        assert isinstance(found, KafkaError), found
        raise bus_error(what, found) from error
    except BufferError as error:
        raise BusUnavailable(f"{what}: {error}") from error
