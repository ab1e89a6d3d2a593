"""Where two JSON values differ, in words a person can act on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

DIFFERENCES_MAX: Final = 20
"""How many are told: who sees twenty knows enough (R13)."""


def differences(one: object, other: object, names: tuple[str, str]) -> str:
    """Return a line for each place where `one` and `other` differ; `names` are what they are."""
    found = list(_between("", one, other, names))
    told = found[:DIFFERENCES_MAX]
    if len(found) > len(told):
        told.append(f"... and {len(found) - len(told)} more")
    return "\n".join(f"  {line}" for line in told)


def _between(place: str, one: Any, other: Any, names: tuple[str, str]) -> Iterator[str]:  # noqa: ANN401
    first, second = names
    match one, other:
        case dict(), dict():
            for key in sorted(one.keys() | other.keys()):
                inner = f"{place}.{key}" if place else key
                if key not in one:
                    yield f"{inner}: {first} nothing, {second} {other[key]!r}"
                elif key not in other:
                    yield f"{inner}: {first} {one[key]!r}, {second} nothing"
                else:
                    yield from _between(inner, one[key], other[key], names)
        case list(), list() if len(one) == len(other):
            for n, (item, counterpart) in enumerate(zip(one, other, strict=True)):
                yield from _between(f"{place}[{n}]", item, counterpart, names)
        case _ if type(one) is not type(other) or one != other:  # 1, 1.0 and true are three values
            yield f"{place or 'all of it'}: {first} {one!r}, {second} {other!r}"
