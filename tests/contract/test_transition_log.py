"""The contract of `TransitionLog`: what state machines did, key by key, without gaps."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING
from uuid import uuid4

from omninode_bridge.core.commit import Commit
from omninode_bridge.core.fsm_workflow import FSM_WORKFLOWS, INITIALIZED, TRANSITION_ASKED, key_of
from omninode_bridge.core.machine import WORKFLOW
from omninode_bridge.core.partition import partition_of
from omninode_bridge.core.reducer import NEVER_SEEN, fold
from tests.contract.batches import accepted, action
from tests.contract.ports import AT, CODEC, PARTITIONS

if TYPE_CHECKING:
    from omninode_bridge.core.message import SealedAction
    from tests.contract.ports import Ports

WHOLE = ("PENDING", "PROCESSING", "COMPLETED")


def asked(workflow_id: str, *path: str) -> list[SealedAction]:
    key = key_of(workflow_id)
    begin = action(key, INITIALIZED, {"machine": WORKFLOW.as_dict()})
    return [begin] + [
        action(key, TRANSITION_ASKED, {"from_state": one, "to_state": other}, correlation_id=CORR)
        for one, other in pairwise(path)
    ]


CORR = uuid4()


async def commit(ports: Ports, *actions: SealedAction) -> None:
    """Fold and commit actions of one key."""
    key = actions[0].workflow_key
    snapshot = (await ports.store.read([key])).get(key, NEVER_SEEN)
    _, steps = fold(snapshot, actions, FSM_WORKFLOWS, CODEC, AT)
    partition = partition_of(key, PARTITIONS)
    reads = {key: snapshot.version}
    accepted(await ports.store.commit(Commit(partition, None, reads, steps, AT, uuid4())))


async def test_an_entry_tells_what_the_reducer_told_with_version_action_and_time(
    ports: Ports,
) -> None:
    actions = asked("1", "PENDING", "PROCESSING")
    await commit(ports, *actions)
    (entry,) = await ports.transitions.history("fsm:1", 0, 10)
    assert (entry.offset, entry.workflow_key, entry.version) == (1, "fsm:1", 2)
    assert (entry.action_id, entry.correlation_id) == (actions[1].action_id, CORR)
    assert entry.committed_at == AT
    assert CODEC.decode(entry.transition) == {
        "workflow_id": "1",
        "from_state": "PENDING",
        "to_state": "PROCESSING",
        "trigger": "start",
        "machine": "workflow",
        "machine_version": 1,
        "metadata": {},
    }


async def test_a_page_begins_behind_the_last_offset_and_is_of_one_key(ports: Ports) -> None:
    names = [name for name in map(str, range(20)) if partition_of(key_of(name), PARTITIONS) == 0]
    first, second = names[:2]
    await commit(ports, *asked(first, "PENDING", "PROCESSING"))
    await commit(ports, *asked(second, "PENDING", "FAILED"))
    following = action(
        key_of(first), TRANSITION_ASKED, {"from_state": "PROCESSING", "to_state": "FAILED"}
    )
    await commit(ports, following)
    mine = await ports.transitions.history(key_of(first), 0, 10)
    assert [(entry.offset, entry.version) for entry in mine] == [(1, 2), (3, 3)]
    assert await ports.transitions.history(key_of(first), 1, 10) == mine[1:]
    assert await ports.transitions.history(key_of(first), 0, 1) == mine[:1]
    assert list(await ports.transitions.history(key_of(first), 3, 10)) == []
    theirs = await ports.transitions.history(key_of(second), 0, 10)
    assert [entry.offset for entry in theirs] == [2]


async def test_the_last_transition_at_a_version_is_found(ports: Ports) -> None:
    await commit(ports, *asked("1", *WHOLE))
    assert await ports.transitions.last("fsm:1", 1) is None
    found = [await ports.transitions.last("fsm:1", version) for version in (2, 3, 9)]
    assert [entry and entry.version for entry in found] == [2, 3, 3]
    assert await ports.transitions.last("fsm:2", 9) is None


async def test_what_was_refused_is_no_transition(ports: Ports) -> None:
    await commit(ports, *asked("1", "PENDING", "COMPLETED"))
    assert list(await ports.transitions.history("fsm:1", 0, 10)) == []


async def test_a_commit_that_is_refused_tells_none(ports: Ports) -> None:
    key = key_of("1")
    _, steps = fold(NEVER_SEEN, asked("1", *WHOLE), FSM_WORKFLOWS, CODEC, AT)
    partition = partition_of(key, PARTITIONS)
    await ports.store.commit(Commit(partition, None, {key: 5}, steps, AT, uuid4()))
    assert list(await ports.transitions.history(key, 0, 10)) == []
