"""How deep JSON is nested: encoders and databases have bounds of their own, so we have lower ones.

A text or a number is not nested, `[]` and `{}` are 1 deep, `{"a": [1]}` is 2 deep.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    _Container = Mapping[Any, Any] | list[Any] | tuple[Any, ...]

WIDTH_MAX: Final = 1_048_576
"""Of objects and lists beside each other at one depth: more fit into no payload, and into no state
that anybody could want. So what refers to itself in several places is not followed for ever."""


def is_nested_deeper(value: object, most: int) -> bool:
    """Return whether `value` is more than `most` deep, or is wider than `WIDTH_MAX`.

    What contains itself is deeper than any bound.
    """
    level = _containers([value])
    for _ in range(most):
        if not level:
            return False
        level = _containers(each for one in level for each in _inside(one))
        if len(level) > WIDTH_MAX:
            return True
    return bool(level)


def _containers(values: Iterable[object]) -> list[_Container]:
    """Return the objects and lists among `values`, one more than are allowed at most."""
    found = (each for each in values if isinstance(each, Mapping | list | tuple))
    return list(islice(found, WIDTH_MAX + 1))


def _inside(container: _Container) -> Iterable[object]:
    return container.values() if isinstance(container, Mapping) else container
