"""The contract of `CanonicalStore.commit`: what becomes durable, and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from omninode_bridge.core.commit import Move, outcomes_of
from omninode_bridge.core.message import reply_id
from omninode_bridge.core.reducer import Absorbed
from omninode_bridge.ports import CutOff
from tests.contract.batches import KEYS, accepted, action, committed, folded, snapshot, versions
from tests.contract.ports import CODEC

if TYPE_CHECKING:
    from tests.contract.ports import Ports


async def test_a_key_never_seen_is_absent(ports: Ports) -> None:
    assert dict(await ports.store.read(["counter:1", "counter:2"])) == {}
    assert dict(await ports.store.read([])) == {}


async def test_the_first_action_of_a_key_makes_version_1(ports: Ports) -> None:
    commit = await folded(ports.store, action(payload={"amount": 40}))
    (outcome,) = outcomes_of(commit, accepted(await ports.store.commit(commit)))
    assert versions([outcome]) == [1]
    stored = await snapshot(ports, "counter:1")
    assert stored.state == b'{"count":1,"total":40}'
    (step,) = commit.steps
    assert isinstance(step, Absorbed)
    assert stored == step.snapshot, "the chain, the epoch and the lease are stored with the state"


async def test_versions_grow_by_one_an_action_and_the_chain_links_them(ports: Ports) -> None:
    first = await committed(ports, action())
    chain_before = (await snapshot(ports, "counter:1")).chain
    commit = await folded(ports.store, action(), action(), action())
    others = outcomes_of(commit, accepted(await ports.store.commit(commit)))
    assert versions([*first, *others]) == [1, 2, 3, 4]
    stored = await snapshot(ports, "counter:1")
    last = commit.steps[-1]
    assert isinstance(last, Absorbed)
    assert chain_before != stored.chain == last.snapshot.chain
    assert stored.version == 4


async def test_a_commit_of_several_keys_leaves_the_others_alone(ports: Ports) -> None:
    await committed(ports, *(action(key) for key in KEYS[:3]))
    untouched = await snapshot(ports, KEYS[0])
    await committed(ports, *(action(key) for key in KEYS[1:]))
    stored = await ports.store.read(KEYS)
    assert [stored[key].version for key in KEYS] == [1, 2, 2, 1, 1, 1]
    assert stored[KEYS[0]] == untouched


async def test_offsets_are_dense_from_1_in_the_order_of_the_steps(ports: Ports) -> None:
    asked = [action(KEYS[n % 3]) for n in range(3)]
    first = await committed(ports, *asked)
    second = await committed(ports, action(KEYS[4]), action(KEYS[4]))
    offsets = [getattr(outcome, "commit_offset", None) for outcome in (*first, *second)]
    assert offsets == [1, 2, 3, 4, 5]
    log = await ports.projections.read(0, 1, 100)
    assert [entry.offset for entry in log] == offsets
    assert [entry.workflow_key for entry in log] == [*KEYS[:3], KEYS[4], KEYS[4]]
    assert [entry.version for entry in log] == [1, 1, 1, 1, 2]


async def test_each_partition_counts_its_own_offsets(ports: Ports) -> None:
    await committed(ports, action("counter:0"), partition=0)
    (outcome,) = await committed(ports, action("counter:1"), partition=1)
    assert getattr(outcome, "commit_offset", None) == 1
    assert [len(await ports.projections.read(n, 1, 100)) for n in (0, 1)] == [1, 1]


async def test_a_give_up_is_logged_and_changes_no_state(ports: Ports) -> None:
    asked = [action(), action(action_type="Refused"), action(action_type="Raised")]
    commit = await folded(ports.store, *asked)
    result = accepted(await ports.store.commit(commit))
    assert (result.state_committed_first, result.reducer_gave_up_first) == (1, 1)
    told = [type(outcome).__name__ for outcome in outcomes_of(commit, result)]
    assert told == ["StateCommitted", "ReducerGaveUp", "ReducerGaveUp"]
    assert (await snapshot(ports, "counter:1")).version == 1
    assert await ports.beside.gave_up(0) == [
        (asked[1].action_id, "rejected"),
        (asked[2].action_id, "reducer_error"),
    ]
    only = await folded(ports.store, action("counter:2", "Refused"))
    assert accepted(await ports.store.commit(only)).reducer_gave_up_first == 3
    assert dict(await ports.store.read(["counter:2"])) == {}


async def test_intents_stand_in_the_log_in_order_and_replies_behind_them(ports: Ports) -> None:
    correlation_id = uuid4()
    first = action(
        payload={"amount": 1, "passes_on_to": ["counter:8", "counter:9"]},
        correlation_id=correlation_id,
        depth=3,
        reply_to="somebody",
    )
    second = action(action_type="Refused", reply_to="somebody else")
    third = action(payload={"passes_on_to": ["counter:7"]})
    commit = await folded(ports.store, first, second, third)
    before = await ports.beside.now()
    assert accepted(await ports.store.commit(commit)).intent_first == 1
    log = await ports.intents.read(0, 1, 100)
    assert not isinstance(log, CutOff)
    entries = list(log)
    assert [entry.offset for entry in entries] == [1, 2, 3, 4, 5]
    assert [(entry.intent.intent_type, entry.intent.target) for entry in entries] == [
        ("SubmitAction", "counter:8"),
        ("SubmitAction", "counter:9"),
        ("ActionAnswered", "somebody"),
        ("ActionAnswered", "somebody else"),
        ("SubmitAction", "counter:7"),
    ]
    step = commit.steps[0]
    assert isinstance(step, Absorbed)
    assert [entry.intent for entry in entries[:2]] == list(step.intents)
    assert entries[0].action_id == first.action_id
    assert (entries[0].correlation_id, entries[0].depth) == (correlation_id, 3)
    assert (entries[4].correlation_id, entries[4].depth) == (None, 0)
    (committed_at,) = {entry.committed_at for entry in entries}
    assert before <= committed_at <= await ports.beside.now(), "by the store's clock"
    assert entries[2].intent.intent_id == reply_id(first.action_id)
    assert CODEC.decode(entries[2].intent.payload) == {
        "workflow_key": "counter:1",
        "action_id": str(first.action_id),
        "event": "StateCommitted",
        "version": 1,
    }
    assert CODEC.decode(entries[3].intent.payload)["reason"] == "rejected"


async def test_an_epoch_and_its_lease_are_stored_with_the_state(ports: Ports) -> None:
    lease_id = uuid4()
    await committed(ports, action(epoch=7, lease_id=lease_id))
    stored = await snapshot(ports, "counter:1")
    assert (stored.epoch, stored.lease_id) == (7, lease_id)


async def test_a_commit_may_move_the_position_and_nothing_else(ports: Ports) -> None:
    await ports.actions.append(0, [action()])
    assert await ports.actions.position(0) == 1
    commit = await folded(ports.store, position=Move(1, 2))
    accepted(await ports.store.commit(commit))
    assert [await ports.actions.position(n) for n in (0, 1)] == [2, 1]
