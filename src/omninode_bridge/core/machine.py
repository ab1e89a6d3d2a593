"""A state machine with a name and a version, as contracts hold it and as actions carry it.

Rule 1: as JSON it is whole: who has it needs no file to know what is allowed.
Rule 2: whatever is not in its table does not happen, so that a terminal state stays terminal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from omninode_bridge.core.fsm import ANY, Rule, TransitionTable
from omninode_bridge.core.message import check_name
from omninode_bridge.core.terms import check_count

if TYPE_CHECKING:
    from collections.abc import Iterable

STATES_MAX: Final = 100
RULES_MAX: Final = 1_000
_FIELDS: Final = frozenset({"name", "version", "initial", "states", "transitions"})
_RULE_FIELDS: Final = frozenset({"trigger", "from", "to"})


@dataclass(frozen=True, slots=True)
class Machine:
    """A table of transitions under a name and a version."""

    name: str
    version: int
    table: TransitionTable

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON; `machine_of` reads it again."""
        table = self.table
        return {
            "name": self.name,
            "version": self.version,
            "initial": table.initial,
            "states": list(table.states),
            "transitions": [
                {"trigger": rule.trigger, "from": list(rule.sources), "to": rule.target}
                for rule in table.rules
            ],
        }


WORKFLOW: Final = Machine(
    "workflow",
    1,
    TransitionTable(
        "PENDING",
        ("PENDING", "PROCESSING", "COMPLETED", "FAILED"),
        (
            Rule("start", ("PENDING",), "PROCESSING"),
            Rule("complete", ("PROCESSING",), "COMPLETED"),
            Rule("fail", ("PENDING", "PROCESSING"), "FAILED"),
        ),
    ),
)
"""What a workflow goes through unless it is begun with another machine."""


def machine_of(document: object) -> Machine:
    """Return the machine that `document` describes, which `as_dict` gave or a person wrote.

    Raises:
        ValueError: saying what is wrong; InvalidAction, which is one, for a name that is.
    """
    fields = _fields("a machine", document, _FIELDS)
    states = _names("states", fields["states"], STATES_MAX)
    rules = [_rule(each) for each in _list("transitions", fields["transitions"], RULES_MAX)]
    initial = check_name("initial", fields["initial"])
    table = TransitionTable(initial, states, tuple(rules))
    return Machine(
        check_name("name", fields["name"]), check_count("version", fields["version"]), table
    )


def _rule(document: object) -> Rule:
    fields = _fields("a transition", document, _RULE_FIELDS)
    sources = _list("from", fields["from"], STATES_MAX)
    trigger, target = check_name("trigger", fields["trigger"]), check_name("to", fields["to"])
    return Rule(trigger, tuple(check_name("from", source) for source in sources), target)


def _fields(what: str, document: object, known: Iterable[str]) -> Mapping[str, object]:
    if not isinstance(document, Mapping) or document.keys() != set(known):
        message = f"{what} has the fields {', '.join(sorted(known))}, each once, and no other"
        raise ValueError(message)
    return document


def _names(what: str, value: object, names_max: int) -> tuple[str, ...]:
    names = tuple(check_name(what, name) for name in _list(what, value, names_max))
    if ANY in names:
        message = f"{ANY!r} means any state: it cannot be one"
        raise ValueError(message)
    return names


def _list(what: str, value: object, items_max: int) -> list[object]:
    if not isinstance(value, list) or not 1 <= len(value) <= items_max:
        message = f"{what} is a list of 1 to {items_max}"
        raise ValueError(message)
    return value
