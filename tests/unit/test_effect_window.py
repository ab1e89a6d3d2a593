"""The window of effects: what may start, what waits, and how far the position may go."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omninode_bridge.core.effect_window import EffectWindow, Place
from omninode_bridge.core.slots import Slots

FREE: Final = ("Mail", "Print")
ORDERED: Final = "Ship"


def place(offset: int, kind: str = "Mail", key: str = "a:1", *, parked: bool = False) -> Place:
    """Return a place."""
    return Place(offset, UUID(int=offset), kind, key, parked)


def taken_in(window: EffectWindow, *places: Place) -> list[bool]:
    """Admit `places` as a reader of the log does."""
    said = []
    for one in places:
        said.append(window.admit(one))
        if not one.parked:
            window.reading = one.offset + 1
    return said


def all_started(window: EffectWindow) -> list[int]:
    """Start whatever may start."""
    return list(window.start(lambda _: True))


def test_the_position_waits_for_the_lowest_that_is_not_settled() -> None:
    window = EffectWindow(1, ())
    taken_in(window, place(1), place(2), place(4))
    window.reading = 6
    assert all_started(window) == [1, 2, 4]
    assert window.position == 1
    window.over(2)
    assert window.position == 1
    assert window.position_without({1, 2}) == 4
    window.over(1)
    assert window.position == 1, "its end is not durable yet"
    window.settled([1, 2])
    assert window.position == 4
    assert window.position_without({4}) == 6
    window.over(4)
    window.settled([4])
    assert window.position == 6


def test_what_is_parked_lets_the_position_pass() -> None:
    window = EffectWindow(1, ())
    taken_in(window, place(1), place(2))
    all_started(window)
    assert window.park(1) == []
    window.settled([1])
    assert window.position == 2
    taken_in(window, place(1, parked=True))
    assert window.position == 2, "it has a row of its own"
    assert all_started(window) == [1]


def test_a_type_without_slots_does_not_keep_another_from_starting() -> None:
    slots = Slots({"Mail": 1, "Print": 2})
    window = EffectWindow(1, ())
    taken_in(window, *(place(n) for n in (1, 2, 3)), *(place(n, "Print") for n in (4, 5, 6)))
    assert list(window.start(slots.take)) == [1, 4, 5]
    assert (window.queued("Mail"), window.queued("Print")) == (2, 1)
    slots.give_back("Mail")
    assert list(window.start(slots.take)) == [2]


def test_those_of_one_lane_start_one_after_another() -> None:
    window = EffectWindow(1, [ORDERED])
    lane = [place(n, ORDERED) for n in (1, 2, 3)]
    taken_in(window, *lane, place(4, ORDERED, "a:2"), place(5))
    assert sorted(all_started(window)) == [1, 4, 5]
    assert all_started(window) == []
    window.over(1)
    assert all_started(window) == [2]
    window.over(2)
    assert all_started(window) == [3]


def test_one_that_is_parked_takes_its_lane_with_it_and_holds_back_who_comes_later() -> None:
    window = EffectWindow(1, [ORDERED])
    taken_in(window, *(place(n, ORDERED) for n in (1, 2, 3)), place(4, ORDERED, "a:2"))
    assert sorted(all_started(window)) == [1, 4]
    assert window.park(1) == [2, 3]
    assert taken_in(window, place(5, ORDERED)) == [False]
    assert window.park(5) == []
    for offset in (1, 2, 3, 5):
        taken_in(window, place(offset, ORDERED, parked=True))
        assert all_started(window) == [offset]
        window.over(offset)
    assert taken_in(window, place(6, ORDERED)) == [True]
    assert all_started(window) == [6]


def test_what_waited_before_the_start_holds_back_its_lane() -> None:
    window = EffectWindow(9, [ORDERED], [(ORDERED, "a:1", 3)])
    assert taken_in(window, place(9, ORDERED), place(10, ORDERED, "a:2")) == [False, True]
    window.park(9)
    window.left((ORDERED, "a:1"), 3)
    assert taken_in(window, place(11, ORDERED)) == [False], "9 waits as well"
    window.park(11)
    window.left((ORDERED, "a:1"), 9)
    window.left((ORDERED, "a:1"), 11)
    assert taken_in(window, place(12, ORDERED)) == [True]


def test_a_parked_one_whose_time_has_come_waits_for_the_one_of_its_lane_under_way() -> None:
    window = EffectWindow(1, [ORDERED])
    taken_in(window, place(5, ORDERED))
    assert all_started(window) == [5]
    assert taken_in(window, place(2, ORDERED, parked=True)) == [False], "it was due later than 5"
    assert window.offsets == [5], "2 stays where it is"
    assert taken_in(window, place(6, ORDERED)) == [False], "2 goes before it"
    window.park(6)
    window.over(5)
    taken_in(window, place(2, ORDERED, parked=True))
    assert all_started(window) == [2]
    assert taken_in(window, place(6, ORDERED, parked=True)) == [False], "2 is under way"
    window.over(2)
    assert taken_in(window, place(6, ORDERED, parked=True)) == [True]
    assert all_started(window) == [6]


def test_one_under_way_stays_when_those_behind_it_in_its_lane_are_crowded_out() -> None:
    window = EffectWindow(1, [ORDERED], window_max=3)
    taken_in(window, *(place(n, ORDERED) for n in (1, 2, 3)))
    assert all_started(window) == [1]
    assert window.crowded_out(lambda _: True, ["Mail", ORDERED]) == [2, 3]
    assert window.park(2) == [3]
    assert window.offsets == [1]
    assert window.is_started(1)
    assert taken_in(window, place(2, ORDERED, parked=True)) == [False], "1 is under way"
    window.over(1)
    assert taken_in(window, place(2, ORDERED, parked=True)) == [True]
    assert all_started(window) == [2]


def test_of_those_that_were_parked_who_comes_first_goes_first_and_before_what_is_new() -> None:
    window = EffectWindow(1, ())
    taken_in(window, place(7), *(place(n, parked=True) for n in (2, 1, 3)))
    assert all_started(window) == [2, 1, 3, 7]


def test_a_lane_is_free_again_when_what_was_to_wait_for_it_outside_is_over() -> None:
    window = EffectWindow(1, [ORDERED])
    taken_in(window, place(1, ORDERED), place(2, ORDERED))
    assert all_started(window) == [1]
    assert window.park(1) == [2]
    window.left((ORDERED, "a:1"), 1)
    assert taken_in(window, place(3, ORDERED)) == [False], "2 waits, and goes before it"
    window.park(3)
    for offset in (2, 3):
        assert taken_in(window, place(offset, ORDERED, parked=True)) == [True]
        assert all_started(window) == [offset]
        window.over(offset)
    assert taken_in(window, place(4, ORDERED)) == [True]


def test_a_cancelled_one_in_the_middle_of_a_lane_starts_nobody() -> None:
    window = EffectWindow(1, [ORDERED])
    taken_in(window, *(place(n, ORDERED) for n in (1, 2, 3)))
    assert all_started(window) == [1]
    window.over(2)
    assert all_started(window) == []
    window.over(1)
    assert all_started(window) == [3]


def test_a_full_window_makes_room_for_types_that_could_start() -> None:
    slots = Slots({"Mail": 2, "Print": 2})
    window = EffectWindow(1, (), window_max=5)
    taken_in(window, *(place(n) for n in range(1, 6)))
    assert not window.has_room
    assert list(window.start(slots.take)) == [1, 2]
    assert window.crowded_out(slots.has_room, ["Mail", "Print"]) == [3, 4, 5]
    assert window.crowded_out(slots.has_room, ["Mail"]) == [], "the log is as good a place to wait"
    for offset in (3, 4, 5):
        window.park(offset)
    window.settled([3, 4, 5])
    assert window.has_room


# A run goes on for as long as effects fail; the shortest one has no failure.
@settings(suppress_health_check=[HealthCheck.large_base_example, HealthCheck.data_too_large])
@given(st.data())
def test_whatever_happens_nothing_is_lost_and_lanes_keep_their_order(data: st.DataObject) -> None:
    kinds = data.draw(
        st.lists(
            st.tuples(st.sampled_from([*FREE, ORDERED]), st.sampled_from(["a:1", "a:2"])),
            min_size=1,
            max_size=12,
        )
    )
    window = EffectWindow(1, [ORDERED])
    places = {n: place(n, *kind) for n, kind in enumerate(kinds, 1)}
    outside: set[int] = set()
    running: set[int] = set()
    ended: list[int] = []

    def park(offset: int) -> None:
        parked = {offset, *window.park(offset)}
        outside.update(parked)
        window.settled(parked)

    for one in places.values():
        if not window.admit(one):
            park(one.offset)
        window.reading = one.offset + 1
    while len(ended) < len(places):
        running.update(window.start(lambda _: True))
        for offset in sorted(outside):  # the store gives out the first of a lane only
            one = places[offset]
            if one.intent_type != ORDERED or not any(
                n < offset and n not in ended and places[n].lane == one.lane for n in places
            ):
                outside.discard(offset)
                window.admit(Place(offset, one.intent_id, *one.lane, parked=True))
        running.update(window.start(lambda _: True))
        assert running, "something can always start"
        lanes = [places[n].lane for n in running if places[n].intent_type == ORDERED]
        assert len(lanes) == len(set(lanes)), "two of one lane at once"
        chosen = data.draw(st.sampled_from(sorted(running)))
        running.discard(chosen)
        if data.draw(st.booleans(), "fails"):
            park(chosen)
        else:
            window.over(chosen)
            window.settled([chosen])
            ended.append(chosen)
        unfinished = [n for n in places if n not in ended and n not in outside]
        assert window.position >= min([*unfinished, len(places) + 1], default=1) or any(
            n in outside for n in places
        )
    assert window.position == len(places) + 1
    for lane in {one.lane for one in places.values() if one.intent_type == ORDERED}:
        theirs = [n for n in ended if places[n].lane == lane]
        assert theirs == sorted(theirs)
