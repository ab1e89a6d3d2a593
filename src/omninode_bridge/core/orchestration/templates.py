"""Texts with references in braces, such as `stock:{input.sku}`, and how they are filled.

Rule 1: a text that is one reference and nothing else becomes what it refers to, of any JSON type.
Rule 2: nothing is evaluated. A reference is a path of fields (and numbers, into lists), no more.
Braces that are meant literally are doubled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKEN: Final = re.compile(r"\{\{|\}\}|\{(?P<path>[^{}]*)\}|(?P<brace>[{}])|[^{}]+")
_INDEX: Final = re.compile(r"[0-9]{1,9}")
"""Of an item of a list; no list is longer, and Python refuses to read numbers of 5,000 digits."""

_ESCAPED: Final = {"{{": "{", "}}": "}"}


class MissingReference(ValueError):
    """A reference leads nowhere, or to what cannot stand in a text."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A path into what is known: `input.sku` is `("input", "sku")`."""

    path: tuple[str, ...]

    def __str__(self) -> str:
        """Write it as templates do."""
        return "{" + ".".join(self.path) + "}"

    def find(self, known: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON is what it is
        """Return what it leads to.

        Raises:
            MissingReference: nothing.
        """
        found: Any = known
        for depth, name in enumerate(self.path):
            if isinstance(found, Mapping) and name in found:
                found = found[name]
            elif isinstance(found, list) and _INDEX.fullmatch(name) and int(name) < len(found):
                found = found[int(name)]
            else:
                there = ".".join(self.path[:depth]) or "the run"
                raise MissingReference(f"{self} leads nowhere: {there} has no {name!r}")
        return found


@lru_cache(maxsize=4_096)
def parse(text: str) -> tuple[str | Reference, ...]:
    """Return literal texts and references, in order.

    Raises:
        ValueError: a brace without its other half, or a reference without a name.
    """
    parts: list[str | Reference] = []
    for token in _TOKEN.finditer(text):
        path = token["path"]
        if token["brace"]:
            raise ValueError(
                f"the brace {token['brace']!r} lacks its other half; a literal one is doubled"
            )
        if path is not None:
            names = tuple(path.split("."))
            if not all(names):
                raise ValueError(f"'{{{path}}}' is no reference: names with dots between them are")
            parts.append(Reference(names))
        elif parts and isinstance(last := parts[-1], str):
            parts[-1] = last + _ESCAPED.get(token[0], token[0])
        else:
            parts.append(_ESCAPED.get(token[0], token[0]))
    return tuple(parts)


def references(template: object) -> Iterator[Reference]:
    """Yield the references of a template: a text, or JSON that has texts in it.

    Raises:
        ValueError: as `parse`.
    """
    match template:
        case str():
            yield from (part for part in parse(template) if isinstance(part, Reference))
        case Mapping():
            for each in template.values():
                yield from references(each)
        case list() | tuple():
            for each in template:
                yield from references(each)
        case _:
            pass


def fill(template: object, known: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON is what it is
    """Return `template` with what is `known` in place of its references.

    Raises:
        MissingReference: naming the first that leads nowhere.
    """
    match template:
        case str():
            match parse(template):
                case (Reference() as alone,):
                    return alone.find(known)
                case _:
                    return fill_text(template, known)
        case Mapping():
            return {name: fill(each, known) for name, each in template.items()}
        case list() | tuple():
            return [fill(each, known) for each in template]
        case _:
            return template


def fill_text(text: str, known: Mapping[str, Any]) -> str:
    """Return `text` with what is `known` in place of its references, as text.

    Raises:
        MissingReference: naming the first that leads nowhere, or to what cannot stand in a text.
    """
    parts = parse(text)
    return "".join(each if isinstance(each, str) else _text(each, known) for each in parts)


def _text(reference: Reference, known: Mapping[str, Any]) -> str:
    found = reference.find(known)
    if isinstance(found, str):
        return found
    if found is None or isinstance(found, Mapping | list):
        shape = "null" if found is None else "an object" if isinstance(found, Mapping) else "a list"
        raise MissingReference(f"{reference} is {shape}, which cannot stand within a text")
    return json.dumps(found)
