"""A contract: how rows of a file become actions, and what the actions do to their keys.

Rule 1: whatever is wrong is said with the file, the line, and what to do.
Rule 2: files and stored contracts are read alike: JSON is YAML.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from omninode_bridge import ContractError, read_yaml
from omninode_bridge.ingest.machine import machine_of
from omninode_bridge.ingest.template import Template

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omninode_bridge import TransitionTable
    from omninode_bridge import YamlValue as Value

TEXT_CHARS_MAX: Final = 262_144
RESERVED_KEY_TYPES: Final = ("bench", "contract", "file", "fsm", "namespace", "run")
_REQUIRED: Final = (
    "name",
    "version",
    "namespace",
    "key",
    "action_type",
    "occurred_at",
    "state_machine",
)
_OPTIONAL: Final = ("payload", "json_columns")


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract that has been checked. `file` and `lines` say where it was read, for messages."""

    name: str
    version: int
    namespace: str
    key: Template
    action_type: Template
    occurred_at: Template
    payload: tuple[str, ...]
    json_columns: tuple[str, ...]
    machine: TransitionTable
    file: str = field(compare=False)
    lines: Mapping[str, int] = field(compare=False, repr=False)

    @property
    def key_type(self) -> str:
        """The text before the first colon of `key`: the contract reduces the keys of this type."""
        return self.key.prefix.partition(":")[0]

    def as_dict(self) -> dict[str, Any]:
        """Return the contract as JSON with every field given; `restore_contract` reads it again."""
        return {
            "name": self.name,
            "version": self.version,
            "namespace": self.namespace,
            "key": self.key.text,
            "action_type": self.action_type.text,
            "occurred_at": self.occurred_at.text,
            "payload": list(self.payload),
            "json_columns": list(self.json_columns),
            "state_machine": {
                "initial": self.machine.initial,
                "unmatched": self.machine.unmatched,
                "states": list(self.machine.states),
                "transitions": [
                    {"trigger": rule.trigger, "from": list(rule.sources), "to": rule.target}
                    for rule in self.machine.rules
                ],
            },
        }

    def error(self, field: str, detail: str) -> ContractError:
        """Return the error that blames `field`: `key`, `payload.COLUMN`, ..."""
        return ContractError(self.file, self.lines.get(field, 1), detail)


def load_contract(text: str, name: str) -> Contract:
    """Return the contract that `text` (YAML or JSON) holds; `name` is its file's, for messages.

    Raises:
        ContractError: naming the line of the first thing that is wrong.
    """
    if len(text) > TEXT_CHARS_MAX:
        raise ContractError(name, 1, f"a contract has at most {TEXT_CHARS_MAX:,} characters")
    contract = _contract(text, name)
    # Here only: a contract that somebody has stored must stay readable.
    if not contract.key.columns:
        raise contract.error(
            "key",
            "'key' names no column, so all rows would be on one key: put one between braces, such"
            f' as "{contract.key_type}:{{case}}"',
        )
    return contract


def restore_contract(document: Mapping[str, Any], name: str) -> Contract:
    """Return the contract that `as_dict` gave; `name` is for messages.

    Raises:
        ContractError: it is not one that this program understands.
    """
    # YAML refuses the one control character that JSON leaves as it is.
    return _contract(json.dumps(document).replace("\x7f", "\\u007f"), name)


def _contract(text: str, name: str) -> Contract:
    fields = read_yaml(text, name, "a contract").fields(_REQUIRED, _OPTIONAL)
    key = _template(fields["key"])
    _check_key(fields["key"], key)
    payload = fields["payload"].names("column") if "payload" in fields else {}
    json_columns = fields["json_columns"].names("column") if "json_columns" in fields else {}
    for column, value in json_columns.items():
        if column not in payload:
            raise value.error(f"{column!r} is not in 'payload': add it there, or drop it here")
    lines = {each: value.line for each, value in fields.items()}
    lines |= {f"payload.{column}": value.line for column, value in payload.items()}
    return Contract(
        name=fields["name"].label(),
        version=fields["version"].number(),
        namespace=fields["namespace"].label(),
        key=key,
        action_type=_template(fields["action_type"]),
        occurred_at=_template(fields["occurred_at"]),
        payload=tuple(payload),
        json_columns=tuple(json_columns),
        machine=machine_of(fields["state_machine"]),
        file=name,
        lines=MappingProxyType(lines),
    )


def _template(value: Value) -> Template:
    text = value.text()
    try:
        return Template.parse(text)
    except ValueError as error:
        raise value.error(f"{value.what}: {error}") from error


def _check_key(value: Value, key: Template) -> None:
    key_type, colon, _ = key.prefix.partition(":")
    if not key_type or not colon:
        raise value.error(
            "'key' must begin with the type of the keys and a colon, such as"
            f' "loan:{{case}}", not {key.text!r}'
        )
    if key_type in RESERVED_KEY_TYPES:
        raise value.error(f"keys {key_type}:... are the bridge's own: choose another type")
