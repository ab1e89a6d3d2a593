"""A contract: how rows of a file become actions, and what the actions do to their keys.

Rule 1: whatever is wrong is said with the file, the line, and what to do.
Rule 2: files and stored contracts are read alike: JSON is YAML.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from omninode_bridge import Rule, TransitionTable
from omninode_bridge.ingest.errors import ContractError
from omninode_bridge.ingest.template import Template
from omninode_bridge.ingest.yaml_nodes import read

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omninode_bridge.ingest.yaml_nodes import Value

TEXT_CHARS_MAX: Final = 262_144
LABEL_BYTES_MAX: Final = 200
RESERVED_KEY_TYPES: Final = ("bench", "contract", "file", "namespace", "run")
ANY: Final = "*"
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
    return _contract(text, name)


def restore_contract(document: Mapping[str, Any], name: str) -> Contract:
    """Return the contract that `as_dict` gave; `name` is for messages.

    Raises:
        ContractError: it is not one that this program understands.
    """
    # YAML refuses the one control character that JSON leaves as it is.
    return _contract(json.dumps(document).replace("\x7f", "\\u007f"), name)


def _contract(text: str, name: str) -> Contract:
    fields = read(text, name, "a contract").fields(_REQUIRED, _OPTIONAL)
    key = _template(fields["key"])
    _check_key(fields["key"], key)
    payload = _names(fields.get("payload"), "column")
    json_columns = _names(fields.get("json_columns"), "column")
    for column, value in json_columns.items():
        if column not in payload:
            raise value.error(f"{column!r} is not in 'payload': add it there, or drop it here")
    lines = {each: value.line for each, value in fields.items()}
    lines |= {f"payload.{column}": value.line for column, value in payload.items()}
    return Contract(
        name=_label(fields["name"]),
        version=fields["version"].number(),
        namespace=_label(fields["namespace"]),
        key=key,
        action_type=_template(fields["action_type"]),
        occurred_at=_template(fields["occurred_at"]),
        payload=tuple(payload),
        json_columns=tuple(json_columns),
        machine=_machine(fields["state_machine"]),
        file=name,
        lines=MappingProxyType(lines),
    )


def _machine(value: Value) -> TransitionTable:
    fields = value.fields(("initial", "states", "transitions"), ("unmatched",))
    states = _names(fields["states"], "state")
    for state, each in states.items():
        if state == ANY:
            raise each.error(f"{ANY!r} means any state: it cannot be one")
        _label(each)
    initial = _state(fields["initial"], states)
    unmatched: Literal["keep", "reject"] = "reject"
    if "unmatched" in fields and fields["unmatched"].choice("keep", "reject") == "keep":
        unmatched = "keep"
    rules: list[Rule] = []
    first: dict[tuple[str, str], tuple[str, int]] = {}
    for transition in fields["transitions"].items():
        rule = _rule(transition, states)
        rules.append(rule)
        for source in rule.sources:
            place = (source, rule.trigger)
            target, line = first.setdefault(place, (rule.target, transition.line))
            if target != rule.target:
                detail = f"{rule.trigger!r} leads from {source!r} to {target!r} on line {line}"
                raise transition.error(f"{detail}, and to {rule.target!r} here: keep one of them")
    return TransitionTable(initial, tuple(states), tuple(rules), unmatched)


def _rule(value: Value, states: Mapping[str, Value]) -> Rule:
    fields = value.fields(("trigger", "from", "to"), ())
    sources = _names(fields["from"], "state")
    if not sources:
        raise fields["from"].error(f"'from' must name a state, or [\"{ANY}\"] for any")
    for source, each in sources.items():
        if source != ANY:
            _state(each, states)
    target = _state(fields["to"], states)
    return Rule(fields["trigger"].text(), tuple(sources), target)


def _state(value: Value, states: Mapping[str, Value]) -> str:
    name = value.text()
    if name not in states:
        raise value.error(f"{name!r} is not among the states: {', '.join(states) or 'none'}")
    return name


def _names(value: Value | None, what: str) -> dict[str, Value]:
    """Return the names of a list, each given once."""
    names: dict[str, Value] = {}
    for each in value.items() if value is not None else ():
        name = each.text()
        if name in names:
            raise each.error(f"the {what} {name!r} is listed twice: keep one of them")
        names[name] = each
    return names


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


def _label(value: Value) -> str:
    text = value.text()
    if len(text.encode()) > LABEL_BYTES_MAX or not text.isprintable():
        raise value.error(f"{value.what} must be at most {LABEL_BYTES_MAX} printable characters")
    return text
