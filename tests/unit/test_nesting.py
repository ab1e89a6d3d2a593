"""How deep JSON is nested is told without recursion, whatever it is."""

from __future__ import annotations

from typing import Any

import pytest

from omninode_bridge.core.nesting import is_nested_deeper


def nested(depth: int) -> Any:  # noqa: ANN401 - JSON is what it is
    """Return lists and objects in one another, `depth` deep."""
    value: Any = "innermost"
    for number in range(depth):
        value = [1, value] if number % 2 else {"a": value}
    return value


@pytest.mark.parametrize("depth", [0, 1, 2, 7, 100, 5_000])
def test_the_depth_is_the_number_of_containers_on_the_longest_way(depth: int) -> None:
    value = [nested(depth - 2), {}] if depth > 1 else nested(depth)
    exact = max(depth - 1, 2) if depth > 1 else depth
    assert not is_nested_deeper(value, exact)
    assert exact == 0 or is_nested_deeper(value, exact - 1)


def test_what_contains_itself_is_deeper_than_any_bound() -> None:
    value: list[Any] = []
    value.append({"a": value})
    assert is_nested_deeper(value, 1_000)


def test_what_is_wider_than_any_payload_is_not_followed_for_ever() -> None:
    assert not is_nested_deeper([[]] * 100_000, 2)
    value: list[Any] = []
    for _ in range(90):  # 2 to the power of 90 ways lead to the innermost
        value = [value, value]
    assert is_nested_deeper(value, 1_000)
    value.extend((value, value))
    assert is_nested_deeper(value, 1_000)
