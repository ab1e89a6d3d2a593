"""Shares: fair, whole, and with no more moving than must be, whoever comes and goes."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from omninode_bridge.core.sharing import Member, app_print, share_of


def members(*apps: str) -> list[Member]:
    """Return members with these apps, eldest first."""
    return [Member(UUID(int=n), f"process {n}", app) for n, app in enumerate(apps)]


def shares(there: list[Member], partitions: int) -> list[int]:
    """Return the share of each."""
    return [share_of(each.member, there, partitions).partitions for each in there]


@given(st.integers(1, 40), st.integers(1, 256))
def test_shares_are_whole_and_differ_by_one_at_most(processes: int, partitions: int) -> None:
    told = shares(members(*["a"] * processes), partitions)
    assert sum(told) == partitions
    assert max(told) - min(told) <= 1


@given(st.integers(1, 20), st.integers(1, 256), st.data())
def test_only_the_newcomer_gains_and_nobody_loses_by_a_leave(
    processes: int, partitions: int, data: st.DataObject
) -> None:
    there = members(*["a"] * (processes + 1))
    after = shares(there, partitions)
    before = shares(there[:-1], partitions)
    assert all(new <= old for old, new in zip(before, after, strict=False))
    leaver = data.draw(st.integers(0, processes))
    left = shares([each for n, each in enumerate(there) if n != leaver], partitions)
    stayed = [share for n, share in enumerate(after) if n != leaver]
    assert all(new >= old for old, new in zip(stayed, left, strict=True))


def test_who_has_another_app_than_the_eldest_waits_for_it() -> None:
    there = members("a", "a", "b", "b")
    assert shares(there, 4) == [2, 2, 0, 0]
    assert [share_of(each.member, there, 4).waits_for for each in there] == [
        *(None, None, "process 0", "process 0")
    ]
    assert shares(there[1:], 4) == [4, 0, 0]
    assert shares(there[2:], 4) == [2, 2]


def test_who_comes_behind_one_that_waits_waits_as_well() -> None:
    there = members("a", "b", "a")
    assert shares(there, 4) == [4, 0, 0]
    assert [share_of(each.member, there, 4).waits_for for each in there] == [
        *(None, "process 0", "process 1")
    ]
    # The one that serves goes: its equal has not begun, so it has nothing to lose to the other.
    assert shares(there[1:], 4) == [4, 0]


def test_an_app_is_its_key_types_their_versions_and_its_effects() -> None:
    one = app_print({"a": 1, "b": 2}, ["x", "y"])
    assert one == app_print({"b": 2, "a": 1}, ["y", "x"])
    others = [
        app_print({"a": 1, "b": 3}, ["x", "y"]),
        app_print({"a": 1}, ["x", "y"]),
        app_print({"a": 1, "b": 2}, ["x"]),
        app_print({"a": 1, "b": 2, "x": 1}, ["y"]),
    ]
    assert len({one, *others}) == 5
