"""The ids lately seen: the latest are held, the oldest go, and there is a bound."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode_bridge.core.recent_ids import RecentIds

ids = st.integers(1, 20).map(lambda number: UUID(int=number))
batches = st.lists(st.lists(ids, max_size=6))


def test_what_was_remembered_is_seen_and_nothing_else() -> None:
    recent = RecentIds()
    recent.remember([UUID(int=1), UUID(int=2)])
    assert recent.seen([UUID(int=2), UUID(int=3)]) == {UUID(int=2)}
    assert recent.seen([]) == set()


def test_the_oldest_go_at_the_bound() -> None:
    recent = RecentIds(4)
    recent.remember(UUID(int=number) for number in range(1, 6))
    assert recent.seen([UUID(int=number) for number in range(1, 6)]) == {
        UUID(int=number) for number in (3, 4, 5)
    }


def test_a_bound_without_room_for_two_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        RecentIds(1)


@given(batches, st.integers(2, 9))
def test_there_are_never_more_than_the_bound_and_the_latest_half_of_it_is_held(
    given_batches: list[list[UUID]], ids_max: int
) -> None:
    recent = RecentIds(ids_max)
    latest: dict[UUID, None] = {}
    for batch in given_batches:
        recent.remember(batch)
        for action_id in batch:
            latest.pop(action_id, None)
            latest[action_id] = None
        assert len(recent) <= ids_max
        half = set(list(latest)[-(ids_max // 2) :])
        seen = recent.seen(list(latest))
        assert len(seen) <= len(recent)
        assert seen <= set(latest)
        assert half & seen == half
