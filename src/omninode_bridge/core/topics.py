"""The topics by which the nodes meet: their names outside, whichever bus carries them."""

from __future__ import annotations

from typing import Final, assert_never

from omninode_bridge.core.message import Event, ReducerGaveUp, StateCommitted, StateConflict

ACTION: Final = "onex.cmd.omninode-bridge.action.v1"
PERSIST_STATE: Final = "onex.cmd.omninode-bridge.persist-state.v1"
PERSIST_ANSWERED: Final = "onex.evt.omninode-bridge.persist-answered.v1"
STATE_COMMITTED: Final = "onex.evt.omninode-bridge.state-committed.v1"
STATE_CONFLICT: Final = "onex.evt.omninode-bridge.state-conflict.v1"
REDUCER_GAVE_UP: Final = "onex.evt.omninode-bridge.reducer-gave-up.v1"
FSM_STATE_TRANSITIONED: Final = "onex.evt.omninode-bridge.fsm-state-transitioned.v1"
DEAD_LETTER: Final = "onex.dlq.omninode-bridge.action.v1"

TOPICS: Final = frozenset(
    {
        ACTION,
        PERSIST_STATE,
        PERSIST_ANSWERED,
        STATE_COMMITTED,
        STATE_CONFLICT,
        REDUCER_GAVE_UP,
        FSM_STATE_TRANSITIONED,
        DEAD_LETTER,
    }
)
"""All there are."""

RELAYED: Final = {
    "state-committed": STATE_COMMITTED,
    "reducer-gave-up": REDUCER_GAVE_UP,
    "fsm-state-transitioned": FSM_STATE_TRANSITIONED,
}
"""The topics of the event log that are history, by which names they are known outside."""


def topic_of(event: Event) -> str:
    """Return the topic that `event` belongs on."""
    match event:
        case StateCommitted():
            return STATE_COMMITTED
        case StateConflict():
            return STATE_CONFLICT
        case ReducerGaveUp():
            return REDUCER_GAVE_UP
        case _:
            assert_never(event)
