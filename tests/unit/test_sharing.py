"""Shares: fair, whole, and with no more moving than must be, whoever comes and goes."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode_bridge.core.roles import ALL, FOLLOWING, Following, Role, read_roles
from omninode_bridge.core.sharing import (
    Member,
    app_print,
    committer,
    follower,
    is_apart,
    share_of,
)


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


def doing(*roles: str, apps: str = "", over_bus: bool = False) -> list[Member]:
    """Return members with these roles ("all", or names with commas), and a letter each as app."""
    return [
        Member(
            UUID(int=n),
            f"process {n}",
            apps[n] if apps else "a",
            ALL if each == "all" else read_roles(each.split(",")),
            over_bus,
        )
        for n, each in enumerate(roles)
    ]


def following(role: Following, owners: list[int | None], there: list[Member]) -> list[int | None]:
    """Return who does what `role` does for partitions of these owners."""
    told = [
        follower(role, partition, None if owner is None else UUID(int=owner), there)
        for partition, owner in enumerate(owners)
    ]
    return [None if each is None else each.int for each in told]


def test_only_reducers_share_partitions_and_others_keep_nobody_waiting() -> None:
    there = doing("materializer", "reducer", "relay,orchestrator", "all", apps="xaxa")
    assert shares(there, 4) == [0, 2, 0, 2]
    assert [share_of(each.member, there, 4).waits_for for each in there] == [None] * 4


def test_an_owner_that_has_a_role_follows_its_own_partitions() -> None:
    there = doing("all", "all", "materializer", "reducer")
    assert following("materializer", [0, 1, 0, 1], there) == [0, 1, 0, 1]
    assert following("materializer", [3, 3, 3], there) == [0, 1, 2]


def test_a_partition_that_is_free_is_left_to_who_can_take_it_and_do_all() -> None:
    assert following("materializer", [None], doing("materializer", "all")) == [None]
    assert following("materializer", [None], doing("materializer", "reducer")) == [0]


def test_an_owner_that_is_going_ends_what_it_does_by_itself() -> None:
    going, stays = doing("all", "all")
    there = [replace(going, roles=frozenset()), stays]
    assert following("effects", [0, 1], there) == [0, 1]
    assert shares(there, 4) == [0, 4]


def test_what_nobody_can_do_is_left() -> None:
    assert following("effects", [0, None], doing("reducer", "materializer")) == [None, None]


@given(
    st.lists(st.sets(st.sampled_from(sorted(ALL)), min_size=1), min_size=1, max_size=8),
    st.sampled_from(FOLLOWING),
    st.data(),
)
def test_each_duty_has_one_who_does_it_as_long_as_anybody_can(
    roles: list[set[Role]], role: Following, data: st.DataObject
) -> None:
    there = doing(*(",".join(each) for each in roles))
    owners = data.draw(st.lists(st.sampled_from([None, *range(len(there))]), max_size=8))
    able = {n for n, each in enumerate(there) if role in each.roles}
    told = following(role, owners, there)
    takes = any("reducer" in roles[n] for n in able)
    for owner, does in zip(owners, told, strict=True):
        if owner in able:
            assert does == owner
        elif owner is None and takes:
            assert does is None
        else:
            assert does in able or not able


def test_effects_wait_for_those_of_another_app_but_for_an_owner_s_own() -> None:
    there = doing("reducer,effects", "all", "reducer", apps="abb")
    assert following("effects", [0, 1, 2], there) == [0, 1, 0]
    assert following("materializer", [0, 1], there) == [1, 1]
    alone = doing("effects", "effects", apps="ab")
    assert [share_of(each.member, alone, 4).waits_for for each in alone] == [None, "process 0"]


def test_who_all_do_the_same_need_nobody_apart() -> None:
    assert not is_apart(doing("all"))
    assert not is_apart(doing("all", "all"))
    assert not is_apart(doing("reducer", "reducer"))
    assert is_apart(doing("reducer", "all"))
    assert is_apart(doing("materializer", "materializer"))


def test_commits_come_over_the_bus_only_while_somebody_sends_them_there() -> None:
    there = doing("reducer", "store-effect", "store-effect")
    assert [committer(partition, there) for partition in range(3)] == [None] * 3
    there += doing("reducer", over_bus=True)
    told = [committer(partition, there) for partition in range(3)]
    assert told == [UUID(int=1), UUID(int=2), UUID(int=1)]
    assert committer(0, doing("reducer", over_bus=True)) is None


def test_a_role_that_there_is_not_is_named() -> None:
    assert read_roles(["effects", "relay", "effects"]) == {"effects", "relay"}
    with pytest.raises(ValueError, match="no role reduser; the roles are reducer, store-effect"):
        read_roles(["reduser"])
    with pytest.raises(ValueError, match="at least one role"):
        read_roles([])
