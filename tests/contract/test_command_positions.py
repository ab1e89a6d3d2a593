"""The contract of `CommandPositions`: hints of how far the commits on a bus were looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.contract.ports import Ports


async def test_a_new_topic_is_looked_at_from_its_beginning(ports: Ports) -> None:
    positions = ports.command_positions
    assert await positions.position(0, "one", 3) == 3
    await positions.advance(0, "one", 9)
    assert await positions.position(0, "one", 3) == 9
    assert await positions.position(1, "one", 3) == 3


async def test_a_position_never_goes_back_and_follows_what_was_cut_off(ports: Ports) -> None:
    positions = ports.command_positions
    await positions.position(0, "one", 0)
    await positions.advance(0, "one", 9)
    await positions.advance(0, "one", 4)
    assert await positions.position(0, "one", 0) == 9
    assert await positions.position(0, "one", 12) == 12
    assert await positions.position(0, "one", 0) == 12


async def test_who_has_found_a_topic_shorter_goes_back(ports: Ports) -> None:
    positions = ports.command_positions
    await positions.position(0, "one", 0)
    await positions.advance(0, "one", 9)
    await positions.go_back(0, "another", 1)
    assert await positions.position(0, "one", 0) == 9
    await positions.go_back(0, "one", 2)
    assert await positions.position(0, "one", 0) == 2


async def test_a_topic_that_was_made_again_is_another_one(ports: Ports) -> None:
    positions = ports.command_positions
    await positions.position(0, "one", 0)
    await positions.advance(0, "one", 9)
    assert await positions.position(0, "two", 1) == 1
    await positions.advance(0, "one", 20)
    assert await positions.position(0, "two", 1) == 1


async def test_a_position_that_nobody_has_asked_for_is_not_kept(ports: Ports) -> None:
    positions = ports.command_positions
    await positions.advance(0, "one", 9)
    assert await positions.position(0, "one", 0) == 0
