"""YAML with the line of each value, read strictly: one meaning, or an error that names the line.

Rule 1: only the shapes that were asked for; an unknown or repeated field is an error.
Rule 2: text is text. What YAML 1.1 makes something else of (`NO`, `on`, `1_000`) has to be quoted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

import orjson
import yaml

from omninode_bridge.core.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Collection

    Path = tuple[str | int, ...]

LABEL_BYTES_MAX: Final = 200
NODES_MAX: Final = 100_000
"""An alias is counted as often as it is used: a few lines of YAML can mean a billion values."""

_JSON_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_JSON_WORDS: Final = {"true": True, "false": False, "null": None}
_INTEGER_MIN: Final = -(2**63)
_INTEGER_LIMIT: Final = 2**64
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")
_TAG: Final = "tag:yaml.org,2002:"
_KINDS: Final = {
    "bool": "as yes or no",
    "int": "as a number",
    "float": "as a number",
    "null": "as nothing",
    "timestamp": "as a date",
}


@dataclass(frozen=True, slots=True)
class Value:
    """A value with its place: `what` is how messages call it."""

    file: str
    what: str
    node: yaml.Node

    @property
    def line(self) -> int:
        """The line on which it starts, counted from 1."""
        return _line(self.node)

    def error(self, detail: str) -> ContractError:
        """Return the error that blames this value."""
        return ContractError(self.file, self.line, detail)

    def fields(self, required: Collection[str], optional: Collection[str]) -> dict[str, Value]:
        """Return the values of a mapping by their fields.

        Raises:
            ContractError: no mapping; a field that is unknown, repeated or missing.
        """
        if not isinstance(self.node, yaml.MappingNode):
            raise self.error(f"{self.what} must be a mapping (`field: value`), not {self._shape()}")
        known = [*required, *optional]
        found: dict[str, Value] = {}
        lines: dict[str, int] = {}
        for key, node in self.node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "[...]"
            if name not in known:
                detail = f"{self.what} has no field {name!r}; known are {', '.join(known)}"
                raise ContractError(self.file, _line(key), detail)
            if name in found:
                detail = f"{name!r} is given twice, first on line {lines[name]}: keep one of them"
                raise ContractError(self.file, _line(key), detail)
            found[name], lines[name] = Value(self.file, f"'{name}'", node), _line(key)
        missing = [repr(name) for name in required if name not in found]
        if missing:
            raise self.error(f"{self.what} lacks {' and '.join(missing)}: add it")
        return found

    def items(self) -> list[Value]:
        """Return the values of a list.

        Raises:
            ContractError: no list.
        """
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.error(f"{self.what} must be a list (`[one, two]`), not {self._shape()}")
        return [
            Value(self.file, f"item {number} of {self.what}", node)
            for number, node in enumerate(self.node.value, start=1)
        ]

    def text(self) -> str:
        """Return a text that is not empty.

        Raises:
            ContractError: no text, or one that could not be stored.
        """
        if not isinstance(self.node, yaml.ScalarNode):
            raise self.error(f"{self.what} must be text, not {self._shape()}")
        raw: str = self.node.value
        if self.node.tag != f"{_TAG}str":
            read = _KINDS.get(self.node.tag.removeprefix(_TAG), f"as {self.node.tag}")
            raise self.error(
                f'{self.what} must be text; YAML reads {raw!r} {read}: quote it, "{raw}"'
            )
        try:
            # JSON writes one character as two escapes; YAML takes them for two characters.
            text = raw.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise self.error(f"{self.what} holds half a character (a lone surrogate)") from None
        if not text:
            raise self.error(f"{self.what} must not be empty")
        if "\0" in text:
            raise self.error(f"{self.what} must not hold the character NUL")
        return text

    def label(self) -> str:
        """Return a text that can stand in a list: short and printable.

        Raises:
            ContractError: it is not.
        """
        text = self.text()
        if len(text.encode()) > LABEL_BYTES_MAX or not text.isprintable():
            raise self.error(f"{self.what} must be at most {LABEL_BYTES_MAX} printable bytes")
        return text

    def names(self, what: str) -> dict[str, Value]:
        """Return the texts of a list, each with its value; `what` is what they name.

        Raises:
            ContractError: no list of texts, or one of them is listed twice.
        """
        names: dict[str, Value] = {}
        for each in self.items():
            name = each.text()
            if name in names:
                raise each.error(f"the {what} {name!r} is listed twice: keep one of them")
            names[name] = each
        return names

    def number(self) -> int:
        """Return a whole number of at least 1.

        Raises:
            ContractError: anything else, quoted, octal and sexagesimal numbers among it.
        """
        node = self.node
        plain = isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}int"
        if not plain or not _NUMBER.fullmatch(node.value):
            shown = repr(node.value) if isinstance(node, yaml.ScalarNode) else self._shape()
            raise self.error(f"{self.what} must be a whole number from 1, unquoted, not {shown}")
        return int(node.value)

    def choice(self, *choices: str) -> str:
        """Return one of `choices`.

        Raises:
            ContractError: something else.
        """
        text = self.text()
        if text not in choices:
            raise self.error(f"{self.what} must be {' or '.join(choices)}, not {text!r}")
        return text

    def json(self) -> tuple[Any, dict[Path, int]]:
        """Return the value as JSON, whatever its shape, and the line of each place in it.

        A place is a path of fields and indices. Texts, `true`, `false`, `null` and numbers as JSON
        writes them are what they look like; whatever else YAML has words for has to be quoted.

        Raises:
            ContractError: such a word, a field given twice, a value that contains itself.
        """
        lines: dict[Path, int] = {(): self.line}
        return _json(self, (), lines, ()), lines

    def _shape(self) -> str:
        match self.node:
            case yaml.MappingNode():
                return "a mapping"
            case yaml.SequenceNode():
                return "a list"
            case _:
                return f"{self.node.value!r}"


def read(text: str, file: str, what: str) -> Value:
    """Return the one document in `text`; `file` and `what` are for messages.

    Raises:
        ContractError: no YAML, nothing, or several documents.
    """
    try:
        node = yaml.compose(_without_tabs(text), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else mark.line + 1
        raise ContractError(file, line, f"not YAML: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ContractError(file, line, f"not YAML: {error.reason}") from error
    except RecursionError as error:
        raise ContractError(file, 1, "not YAML that can be read: it is nested too deep") from error
    if node is None:
        raise ContractError(file, 1, f"{what} is empty")
    return Value(file, what, node)


def _json(value: Value, path: Path, lines: dict[Path, int], around: tuple[yaml.Node, ...]) -> Any:  # noqa: ANN401 - JSON is what it is
    node = value.node
    if node in around:
        raise value.error(f"{value.what} contains itself")
    if len(lines) > NODES_MAX:
        raise value.error(f"there are more than {NODES_MAX:,} values")
    inside = (*around, node)
    if isinstance(node, yaml.ScalarNode):
        return _json_scalar(value)
    if isinstance(node, yaml.SequenceNode):
        found = []
        for index, item in enumerate(value.items()):
            lines[*path, index] = item.line
            found.append(_json(item, (*path, index), lines, inside))
        return found
    fields: dict[str, Any] = {}
    for key, item in node.value:
        name = Value(value.file, f"a field of {value.what}", key).text()
        if name in fields:
            first = lines[*path, name]
            detail = f"{name!r} is given twice, first on line {first}: keep one of them"
            raise ContractError(value.file, _line(key), detail)
        lines[*path, name] = _line(key)
        held = Value(value.file, repr(name), item)
        fields[name] = _json(held, (*path, name), lines, inside)
    return fields


def _json_scalar(value: Value) -> Any:  # noqa: ANN401 - JSON is what it is
    node = value.node
    assert isinstance(node, yaml.ScalarNode)
    raw: str = node.value
    if node.style is not None:
        return value.text() if raw else ""
    if raw in _JSON_WORDS:
        return _JSON_WORDS[raw]
    if not _JSON_NUMBER.fullmatch(raw):
        return value.text()
    number = float(raw) if set(raw) & set(".eE") else int(raw[:LABEL_BYTES_MAX])
    if not isfinite(number) or (isinstance(number, int) and not _fits(number)):
        raise value.error(f"{value.what} is {raw}, a number that 64 bits cannot hold")
    return number


def _fits(number: int) -> bool:
    return _INTEGER_MIN <= number < _INTEGER_LIMIT


def _without_tabs(text: str) -> str:
    """JSON may be indented with tabs, YAML may not; inside its strings JSON has none."""
    if "\t" in text and text.lstrip().startswith("{"):
        try:
            orjson.loads(text)
        except ValueError:
            return text
        return text.replace("\t", " ")
    return text


def _line(node: yaml.Node) -> int:
    mark = node.start_mark
    return 1 if mark is None else mark.line + 1
