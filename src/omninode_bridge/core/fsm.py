"""A state machine as a table, and how to read it.

Rule 1: what is not in the table does not happen; the answer then says what would have been allowed.
Rule 2: where the table comes from (YAML, Python) is not this module's business.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

ANY: Final = "*"


@dataclass(frozen=True, slots=True)
class Rule:
    """`trigger` leads from each state of `sources` (`*`: any state) to `target`."""

    trigger: str
    sources: tuple[str, ...]
    target: str


@dataclass(frozen=True, slots=True)
class Moved:
    """The trigger leads to `state`."""

    state: str


@dataclass(frozen=True, slots=True)
class Kept:
    """The table says nothing of this trigger here, and lets it pass: the state stays."""

    state: str


@dataclass(frozen=True, slots=True)
class Illegal:
    """The trigger is not allowed in `state`; `allowed` are the ones that are, sorted."""

    state: str
    trigger: str
    allowed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Way:
    """One way out of a state: `trigger` leads to `target`."""

    trigger: str
    target: str


@dataclass(frozen=True, slots=True)
class TransitionTable:
    """States, where they start, and the rules between them.

    `unmatched` says what becomes of a trigger without a rule: `keep` the state, or `reject`.
    The first rule that fits wins; a rule that names the state goes before one with `*`.

    Raises:
        ValueError: for a state that is not listed, or two rules that disagree.
    """

    initial: str
    states: tuple[str, ...]
    rules: tuple[Rule, ...]
    unmatched: Literal["keep", "reject"] = "reject"
    _targets: dict[tuple[str, str], str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the table and index it by (state, trigger)."""
        known = set(self.states)
        if len(known) != len(self.states):
            message = "a state is listed twice"
            raise ValueError(message)
        if self.initial not in known:
            message = f"the initial state {self.initial!r} is not among the states"
            raise ValueError(message)
        targets: dict[tuple[str, str], str] = {}
        for rule in self.rules:
            for state in (rule.target, *(s for s in rule.sources if s != ANY)):
                if state not in known:
                    message = f"trigger {rule.trigger!r}: {state!r} is not among the states"
                    raise ValueError(message)
            for source in rule.sources:
                if targets.setdefault((source, rule.trigger), rule.target) != rule.target:
                    message = f"trigger {rule.trigger!r} leads from {source!r} to two states"
                    raise ValueError(message)
        object.__setattr__(self, "_targets", targets)

    def next(self, state: str, trigger: str) -> Moved | Kept | Illegal:
        """Return where `trigger` leads from `state`."""
        target = self._targets.get((state, trigger))
        if target is None:
            target = self._targets.get((ANY, trigger))
        if target is not None:
            return Moved(target)
        if self.unmatched == "keep":
            return Kept(state)
        return Illegal(state, trigger, self.allowed(state))

    def allowed(self, state: str) -> tuple[str, ...]:
        """Return the triggers that have a rule in `state`, sorted."""
        fitting = {trigger for source, trigger in self._targets if source in (state, ANY)}
        return tuple(sorted(fitting))

    def ways(self, state: str) -> tuple[Way, ...]:
        """Return the ways out of `state`, sorted by their triggers; a terminal state has none."""
        found = {trigger: to for (source, trigger), to in self._targets.items() if source == ANY}
        found |= {trigger: to for (source, trigger), to in self._targets.items() if source == state}
        return tuple(Way(trigger, target) for trigger, target in sorted(found.items()))

    def terminal(self) -> tuple[str, ...]:
        """Return the states that nothing leads out of, in the order of `states`."""
        return tuple(state for state in self.states if not self.ways(state))

    def way(self, state: str, target: str, trigger: str | None = None) -> Way | None:
        """Return the way from `state` to `target`, by `trigger` if one is named; None: no such way.

        Without a trigger, and with several that lead there, it is the first in their order.
        """
        ways = (way for way in self.ways(state) if way.target == target)
        return next((way for way in ways if trigger in (None, way.trigger)), None)
