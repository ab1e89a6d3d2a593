"""A JSON document read strictly: each value with its place, so that what is wrong can be shown.

Rule 1: only the shapes that were asked for; an unknown field is a fault.
Rule 2: the place is a path of fields and indices; who has the text makes a line of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Collection

    Path = tuple[str | int, ...]

LABEL_BYTES_MAX: Final = 200


class ContractFault(ValueError):
    """A contract that cannot work: `path` leads to what is wrong with it, `detail` says it."""

    def __init__(self, path: Path, detail: str) -> None:
        """`path` is of fields and indices, from the document's root."""
        place = ".".join(map(str, path))
        super().__init__(f"{place}: {detail}" if place else detail)
        self.path = path
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a document, and the path that leads to it."""

    path: Path
    value: Any

    @property
    def what(self) -> str:
        """How messages call it."""
        if not self.path:
            return "a contract"
        last = self.path[-1]
        return repr(last) if isinstance(last, str) else f"item {last + 1}"

    def fault(self, detail: str) -> ContractFault:
        """Return the fault that blames this value."""
        return ContractFault(self.path, detail)

    def fields(self, required: Collection[str], optional: Collection[str]) -> dict[str, Value]:
        """Return the values of an object by their fields; absent and null are the same.

        Raises:
            ContractFault: no object; a field that is unknown or missing.
        """
        if not isinstance(self.value, Mapping):
            raise self.fault(f"{self.what} must be a mapping (`field: value`)")
        for name in self.value:
            if name not in required and name not in optional:
                known = ", ".join([*required, *optional])
                detail = f"{self.what} has no field {name!r}; known are {known}"
                raise ContractFault((*self.path, name), detail)
        found = {
            name: Value((*self.path, name), each)
            for name, each in self.value.items()
            if each is not None
        }
        missing = [repr(name) for name in required if name not in found]
        if missing:
            raise self.fault(f"{self.what} lacks {' and '.join(missing)}: add it")
        return found

    def items(self) -> list[Value]:
        """Return the values of a list.

        Raises:
            ContractFault: no list.
        """
        if not isinstance(self.value, list | tuple):
            raise self.fault(f"{self.what} must be a list (`[one, two]`)")
        return [Value((*self.path, index), each) for index, each in enumerate(self.value)]

    def text(self) -> str:
        """Return a text that is not empty.

        Raises:
            ContractFault: anything else.
        """
        if not isinstance(self.value, str) or not self.value:
            raise self.fault(f"{self.what} must be text that is not empty, not {self.value!r}")
        return self.value

    def label(self) -> str:
        """Return a text that can stand in a list: short and printable.

        Raises:
            ContractFault: it is not.
        """
        text = self.text()
        if not text.isprintable() or len(text.encode()) > LABEL_BYTES_MAX:
            raise self.fault(f"{self.what} must be at most {LABEL_BYTES_MAX} printable bytes")
        return text

    def number(self, most: int) -> int:
        """Return a whole number from 1 to `most`.

        Raises:
            ContractFault: anything else.
        """
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            detail = f"{self.what} must be a whole number from 1 to {most:,}, not {value!r}"
            raise self.fault(detail)
        return value

    def choice(self, *choices: str) -> str:
        """Return one of `choices`.

        Raises:
            ContractFault: something else.
        """
        if self.value not in choices:
            raise self.fault(f"{self.what} must be {' or '.join(choices)}, not {self.value!r}")
        return self.text()

    def mapping(self) -> dict[str, Any]:
        """Return an object, whatever is in it.

        Raises:
            ContractFault: anything else.
        """
        if not isinstance(self.value, Mapping):
            raise self.fault(f"{self.what} must be a mapping (`field: value`)")
        return dict(self.value)
