"""The state machine of a contract, checked against its own states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from omninode_bridge import Rule, TransitionTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omninode_bridge import YamlValue as Value

ANY: Final = "*"


def machine_of(value: Value) -> TransitionTable:
    """Return the state machine that `value` describes.

    Raises:
        ContractError: naming the line of the first thing that is wrong.
    """
    fields = value.fields(("initial", "states", "transitions"), ("unmatched",))
    states = fields["states"].names("state")
    for state, each in states.items():
        if state == ANY:
            raise each.error(f"{ANY!r} means any state: it cannot be one")
        each.label()
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
    sources = fields["from"].names("state")
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
