"""What may be said of an action: all that is let in can be stored and read back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from asyncpg.pgproto.pgproto import UUID as DriversUUID  # noqa: N811 - the driver's own kind

from omninode_bridge.core.errors import InvalidAction
from omninode_bridge.core.terms import (
    COUNT_MAX,
    DUE_IN_MS_MAX,
    REMEMBER_FOR_MAX,
    check_count,
    check_due_in_ms,
    check_id,
    check_remember_for,
    check_time,
)


def test_an_id_is_a_uuid_of_whatever_kind_and_comes_out_plain() -> None:
    plain = uuid4()
    assert check_id("action_id", plain) is plain
    of_a_driver = DriversUUID(plain.bytes)
    assert type(of_a_driver) is not UUID
    assert type(check_id("action_id", of_a_driver)) is UUID
    assert check_id("action_id", of_a_driver) == plain


@pytest.mark.parametrize("value", [0, 1, COUNT_MAX])
def test_a_count_is_an_integer_that_63_bits_can_hold(value: int) -> None:
    assert check_count("epoch", value) == value


@pytest.mark.parametrize("value", [0, 1, DUE_IN_MS_MAX])
def test_a_wait_leads_to_a_time_that_can_be_stored(value: int) -> None:
    assert check_due_in_ms(value) == value
    due_at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(milliseconds=value)
    assert check_time("due_at", due_at) == due_at


@pytest.mark.parametrize("value", [-1, DUE_IN_MS_MAX + 1, 1.5, True, "1", None])
def test_what_is_no_wait_is_refused(value: object) -> None:
    with pytest.raises(InvalidAction) as error:
        check_due_in_ms(value)
    assert error.value.field == "due_in_ms"


def test_how_long_to_remember_comes_out_in_seconds() -> None:
    assert check_remember_for(timedelta(0)) == 0.0
    assert check_remember_for(timedelta(hours=6)) == 21_600.0
    assert check_remember_for(REMEMBER_FOR_MAX) == 36_525 * 86_400.0


def test_a_moment_has_its_zone() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert check_time("occurred_at", moment) is moment


def test_an_offset_with_seconds_becomes_utc() -> None:
    railway = timezone(timedelta(hours=1))
    solar = timezone(timedelta(minutes=9, seconds=21))
    moment = datetime(1880, 1, 1, tzinfo=solar)
    assert check_time("occurred_at", moment).utcoffset() == timedelta(0)
    assert check_time("occurred_at", moment) == moment
    assert check_time("occurred_at", moment.astimezone(railway)).utcoffset() == timedelta(hours=1)


def test_a_moment_of_a_drivers_kind_and_a_zone_by_name_come_out_plain() -> None:
    class Theirs(datetime):
        """What freezers of time and data frames have."""

    moment = Theirs(2026, 7, 1, 12, 30, 15, 7, tzinfo=ZoneInfo("Europe/Paris"))
    plain = check_time("occurred_at", moment)
    assert type(plain) is datetime
    assert plain.tzinfo == timezone(timedelta(hours=2)), "as the log gives it back"
    assert plain == moment


def test_a_zone_that_knows_no_offset_is_none() -> None:
    class Nowhere(tzinfo):
        def utcoffset(self, _: datetime | None) -> timedelta | None:
            return None

        dst = utcoffset

        def tzname(self, _: datetime | None) -> str | None:
            return None

    with pytest.raises(InvalidAction, match="needs a time zone"):
        check_time("occurred_at", datetime(2026, 1, 1, tzinfo=Nowhere()))


@pytest.mark.parametrize(
    "moment",
    [
        datetime.min.replace(tzinfo=timezone(timedelta(minutes=9, seconds=21))),
        datetime.fromisoformat("9999-12-31T23:59:59-12:00"),
        datetime.fromisoformat("0001-01-01T00:00+12:00"),
        datetime.max.replace(tzinfo=ZoneInfo("America/New_York")),
    ],
    ids=str,
)
def test_a_moment_outside_utc_is_refused(moment: datetime) -> None:
    with pytest.raises(InvalidAction, match="no time in UTC"):
        check_time("occurred_at", moment)


@pytest.mark.parametrize(
    "moment",
    [
        datetime.fromisoformat("9999-12-31T23:59:59+12:00"),
        datetime.fromisoformat("9999-12-31T11:59:59-12:00"),
        datetime.fromisoformat("0001-01-01T00:00-12:00"),
        datetime.fromisoformat("0001-01-01T12:00+12:00"),
        datetime.max.replace(tzinfo=UTC),
        datetime.min.replace(tzinfo=UTC),
    ],
    ids=str,
)
def test_a_moment_at_the_edge_of_time_keeps_its_offset(moment: datetime) -> None:
    checked = check_time("occurred_at", moment)
    assert (checked, checked.utcoffset()) == (moment, moment.utcoffset())


@pytest.mark.parametrize(
    ("check", "value", "says"),
    [
        (check_id, "17", "is a str, not a UUID"),
        (check_id, None, "is a NoneType, not a UUID"),
        (check_count, -1, "is -1; 0 to 9223372036854775807 are allowed"),
        (check_count, COUNT_MAX + 1, "are allowed"),
        (check_count, True, "is a bool, not an integer"),
        (check_count, 1.0, "is a float, not an integer"),
        (check_time, "now", "is a str, not a datetime"),
        (check_time, datetime(2026, 1, 1), "needs a time zone"),  # noqa: DTZ001 - the point
    ],
)
def test_what_is_no_such_term_is_refused_by_name(check: Any, value: object, says: str) -> None:  # noqa: ANN401
    with pytest.raises(InvalidAction, match=says) as refusal:
        check("the term", value)
    assert refusal.value.field == "the term"


@pytest.mark.parametrize(
    "value", [timedelta(microseconds=-1), timedelta.max, REMEMBER_FOR_MAX * 1.01, 6]
)
def test_nobody_remembers_backwards_or_beyond_a_hundred_years(value: object) -> None:
    with pytest.raises(InvalidAction) as refusal:
        check_remember_for(value)
    assert refusal.value.field == "remember_for"
