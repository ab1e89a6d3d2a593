"""The words that start a run, checked before they are sent: what is wrong with which part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from omninode_bridge.core.errors import InvalidAction
from omninode_bridge.core.nesting import is_nested_deeper
from omninode_bridge.core.orchestration import NESTING_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omninode_bridge.core.orchestration import RunContract
    from omninode_bridge.core.reducer import Codec


def words_of(contract: RunContract, given: object, codec: Codec) -> tuple[dict[str, Any], bytes]:
    """Return the payload that starts a run of `contract` with the input `given`, and its bytes.

    Raises:
        InvalidAction: `field` is the part that is no JSON which can be stored: `input.lines.2`.
    """
    if not isinstance(given, Mapping):
        detail = f"must be a JSON object, as {{'sku': 'tea'}}, not a {type(given).__name__}"
        raise InvalidAction("input", detail)
    said = {"contract": contract.as_document(), "input": dict(given)}
    if is_nested_deeper(given, NESTING_MAX):
        raise InvalidAction("input", f"is nested more than {NESTING_MAX} deep")
    try:
        return said, codec.encode(said)
    except ValueError:
        for field, value in said.items():
            _require_storable(field, value, codec)
        raise


def _require_storable(place: str, value: object, codec: Codec) -> None:
    """Blame the innermost part of `value` that cannot be stored, if there is one."""
    try:
        codec.encode(value)
    except ValueError as error:
        for name, each in _parts(value):
            _require_storable(f"{place}.{name}", each, codec)
        raise InvalidAction(place, str(error)) from error


def _parts(value: object) -> Iterator[tuple[object, object]]:
    match value:
        case dict():
            yield from value.items()
        case list() | tuple():
            yield from enumerate(value)
        case _:
            pass
