"""Text with columns in braces, such as `loan:{case}`, and how it is filled from a row."""

from __future__ import annotations

import re
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Fill = Callable[[Sequence[str]], str]

# Not str.format's own parser: columns may have dots, colons and brackets in their names.
_TOKEN: Final = re.compile(r"\{\{|\}\}|\{(?P<column>[^{}]*)\}|(?P<brace>[{}])|[^{}]+")
_ESCAPED: Final = {"{{": "{", "}}": "}"}


@dataclass(frozen=True, slots=True)
class Column:
    """A place to be filled from the row."""

    name: str


@dataclass(frozen=True, slots=True)
class Template:
    """Literal text and columns, in order. Braces that are meant literally are doubled."""

    text: str
    parts: tuple[str | Column, ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """Read a template.

        Raises:
            ValueError: for a brace without its other half, or without a column between them.
        """
        parts: list[str | Column] = []
        for token in _TOKEN.finditer(text):
            column = token["column"]
            if token["brace"]:
                message = (
                    f"the brace {token['brace']!r} lacks its other half; a literal one is doubled"
                )
                raise ValueError(message)
            if column == "":
                raise ValueError("'{}' names no column: put its name between the braces")
            if column is not None:
                parts.append(Column(column))
            elif parts and isinstance(last := parts[-1], str):
                parts[-1] = last + _ESCAPED.get(token[0], token[0])
            else:
                parts.append(_ESCAPED.get(token[0], token[0]))
        return cls(text, tuple(parts))

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(part.name for part in self.parts if isinstance(part, Column))

    @property
    def prefix(self) -> str:
        """The literal text before the first column."""
        first = self.parts[0] if self.parts else ""
        return first if isinstance(first, str) else ""

    def compiled(self, places: Mapping[str, int]) -> Fill:
        """Return the function that fills the template from a row; `places` has every column."""
        match self.parts:
            case (Column(name),):
                return itemgetter(places[name])
            case (str(literal), Column(name)):
                place = places[name]
                return lambda row: literal + row[place]
            case _:
                pattern = "".join(_pattern(part) for part in self.parts)
                chosen = [places[name] for name in self.columns]
                return lambda row: pattern % tuple(row[place] for place in chosen)


def _pattern(part: str | Column) -> str:
    return "%s" if isinstance(part, Column) else part.replace("%", "%%")
