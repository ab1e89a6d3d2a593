"""How deep JSON is nested: encoders and databases have bounds of their own, so we have lower ones.

A text or a number is not nested, `[]` and `{}` are 1 deep, `{"a": [1]}` is 2 deep.
"""

from __future__ import annotations

from collections.abc import Mapping


def is_nested_deeper(value: object, most: int) -> bool:
    """Return whether `value` is more than `most` deep; one that contains itself is."""
    level = _containers([value])
    for _ in range(most):
        if not level:
            return False
        level = _containers([each for one in level for each in _inside(one)])
    return bool(level)


def _containers(values: list[object]) -> list[object]:
    """Return the objects and lists among `values`, each once, however often it is referred to."""
    found = {id(each): each for each in values if isinstance(each, Mapping | list | tuple)}
    return list(found.values())


def _inside(container: object) -> list[object]:
    if isinstance(container, Mapping):
        return list(container.values())
    assert isinstance(container, list | tuple)
    return list(container)
