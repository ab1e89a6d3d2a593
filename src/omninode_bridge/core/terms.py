"""What may be said of an action besides its key, type and payload: ids, numbers, times.

All of it is stored with the action. What could not be stored, or not be read back, is refused here,
at the door: behind it stands the log, and an action that nobody can decide would stop everyone
behind it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Final
from uuid import UUID

from omninode_bridge.core.errors import InvalidAction

COUNT_MAX: Final = 2**63 - 1
"""The largest version or epoch: what 64 bits with a sign can hold."""

REMEMBER_FOR_MAX: Final = timedelta(days=36_525)
"""A hundred years: whoever wants longer wants it for ever, and says None."""

DUE_IN_MS_MAX: Final = 36_525 * 86_400_000
"""A hundred years in milliseconds, too: from any commit, that is a time which can be stored."""


def check_id(what: str, value: object) -> UUID:
    """Return `value` as a plain UUID: drivers have kinds of their own, which no encoder knows.

    Raises:
        InvalidAction: with `what` as its field.
    """
    if type(value) is UUID:
        return value
    if isinstance(value, UUID):
        return UUID(int=value.int)
    raise InvalidAction(what, f"is a {type(value).__name__}, not a UUID")


def check_count(what: str, value: object) -> int:
    """Return `value` when it can be a version or an epoch: an integer from 0 that fits 63 bits.

    Raises:
        InvalidAction: with `what` as its field.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidAction(what, f"is a {type(value).__name__}, not an integer")
    if not 0 <= value <= COUNT_MAX:
        raise InvalidAction(what, f"is {value}; 0 to {COUNT_MAX} are allowed")
    return int(value)


def check_time(what: str, value: object) -> datetime:
    """Return `value` as a plain moment: a datetime in UTC, or with a fixed offset.

    So a reducer sees the same before the commit as after the log. An offset with seconds, which
    zones had before they were railway zones, becomes UTC: what is stored and read by others
    (RFC 3339) has offsets of whole minutes. The moment lies in the years 1 to 9999 of UTC as well,
    for that is how it is stored: an offset at the edge of time can lead out of them.

    Raises:
        InvalidAction: with `what` as its field.
    """
    if type(value) is datetime and value.tzinfo is UTC:
        return value
    if not isinstance(value, datetime):
        raise InvalidAction(what, f"is a {type(value).__name__}, not a datetime")
    offset = value.utcoffset()
    if offset is None:
        raise InvalidAction(what, "needs a time zone")
    date, time = value.date(), value.time()
    plain = datetime(
        *(date.year, date.month, date.day, time.hour, time.minute, time.second, time.microsecond),
        tzinfo=UTC if not offset else timezone(offset),
    )
    try:
        in_utc = plain.astimezone(UTC)
    except OverflowError as error:
        raise InvalidAction(what, f"is {value}, which is no time in UTC") from error
    return in_utc if offset.seconds % 60 or offset.microseconds else plain


def check_due_in_ms(value: object) -> int:
    """Return `value` when it can be a wait, in milliseconds.

    Raises:
        InvalidAction: with `due_in_ms` as its field.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidAction("due_in_ms", f"is a {type(value).__name__}, not an integer")
    if not 0 <= value <= DUE_IN_MS_MAX:
        raise InvalidAction("due_in_ms", f"is {value}; 0 to {DUE_IN_MS_MAX} are allowed")
    return int(value)


def check_remember_for(value: object) -> float:
    """Return how long to remember, in seconds.

    Raises:
        InvalidAction: with `remember_for` as its field.
    """
    if not isinstance(value, timedelta):
        raise InvalidAction("remember_for", f"is a {type(value).__name__}, not a timedelta")
    if not timedelta(0) <= value <= REMEMBER_FOR_MAX:
        detail = f"is {value}; up to {REMEMBER_FOR_MAX.days} days are allowed, None is for ever"
        raise InvalidAction("remember_for", detail)
    return value.total_seconds()
