"""Actions that are cancelled by id, or tried again after they were given up (R3)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from omninode_bridge.core.commit import settles
from omninode_bridge.core.message import ReducerGaveUp, StateCommitted
from omninode_bridge.core.partition import partition_of
from omninode_bridge.ports import CutOff
from omninode_bridge.services.dispatcher import Dispatcher
from tests.contract.batches import accepted, action, committed, folded, refused, snapshot
from tests.contract.ports import CODEC, PARTITIONS

if TYPE_CHECKING:
    from omninode_bridge.core.commit import Remembered
    from omninode_bridge.core.message import SealedAction
    from tests.contract.ports import Ports


async def remembered(ports: Ports, asked: SealedAction) -> Remembered:
    """Return what is remembered of the id of `asked`."""
    name = (asked.workflow_key, asked.action_id)
    async with ports.store.locked(0) as locked:
        return (await locked.recall([name]))[name]


async def dispatched(ports: Ports) -> None:
    """Carry over what the intents of partition 0 ask for."""
    dispatcher = Dispatcher(
        0,
        partitions=PARTITIONS,
        intents=ports.intents,
        actions=ports.actions,
        codec=CODEC,
        uniform=lambda low, _: low,
    )
    dispatcher.stop()
    await dispatcher.run()


async def logged(ports: Ports, partition: int) -> list[SealedAction]:
    """Return the action log."""
    page = await ports.actions.read(partition, 1, 100)
    assert not isinstance(page, CutOff)
    return [entry.action for entry in page]


def reason_of(found: Remembered) -> str:
    """Return the reason of the give-up that is remembered."""
    assert isinstance(found.outcome, ReducerGaveUp), found
    return found.outcome.reason


async def test_a_cancellation_is_the_outcome_under_the_id_of_the_action(ports: Ports) -> None:
    asked = action()
    (outcome,) = await committed(ports, replace(asked, purpose="cancel"))
    assert isinstance(outcome, ReducerGaveUp)
    assert (outcome.reason, outcome.action_id) == ("cancelled", asked.action_id)
    late = refused(await ports.store.commit(await folded(ports.store, asked)))
    assert list(late.known) == [(asked.workflow_key, asked.action_id)]
    assert asked.workflow_key not in await ports.store.read([asked.workflow_key])


async def test_what_has_committed_cannot_be_cancelled(ports: Ports) -> None:
    asked = action()
    await committed(ports, asked)
    cancel = await folded(ports.store, replace(asked, purpose="cancel"))
    (known,) = refused(await ports.store.commit(cancel)).known.values()
    assert isinstance(known.outcome, StateCommitted)
    assert (await snapshot(ports, asked.workflow_key)).version == 1


async def test_a_cancellation_outlasts_an_action_that_is_due_much_later(ports: Ports) -> None:
    asked = action(due_at=await ports.beside.now() + timedelta(days=30))
    home = partition_of(asked.workflow_key, PARTITIONS)
    await ports.actions.append(home, [asked])
    names = (asked.workflow_key, asked.type, {"amount": 1}, str(asked.action_id))
    await committed(ports, action("document:1", payload={"cancels": names}))
    await dispatched(ports)
    (cancel,) = await logged(ports, home)
    (outcome,) = await committed(ports, cancel, partition=home)
    assert isinstance(outcome, ReducerGaveUp)
    assert outcome.reason == "cancelled"
    await ports.beside.let_pass(timedelta(days=31))
    assert await ports.outcomes.cleanup_expired(100) == 1, "the cancelling one"
    assert (await ports.timers.fire(home, 10))[0] == 1
    _, late = await logged(ports, home)
    assert late == asked
    known = refused(await ports.store.commit(await folded(ports.store, late, partition=home))).known
    assert list(known) == [(asked.workflow_key, asked.action_id)]
    assert asked.workflow_key not in await ports.store.read([asked.workflow_key])


async def test_a_redriven_action_replaces_its_give_up_in_the_commit_that_applies_it(
    ports: Ports,
) -> None:
    asked = action(action_type="Refused")
    await committed(ports, asked)
    assert reason_of(await remembered(ports, asked)) == "rejected"
    mended = replace(asked, type="Counted", purpose="redrive")
    (outcome,) = await committed(ports, mended)
    assert isinstance(outcome, StateCommitted)
    assert outcome.action_id == asked.action_id
    found = await remembered(ports, asked)
    assert found.outcome == outcome
    assert settles(found, mended)


async def test_twice_redriven_is_once_applied(ports: Ports) -> None:
    asked = action(action_type="Refused")
    await committed(ports, asked)
    again = replace(asked, type="Counted", purpose="redrive")
    await committed(ports, again)
    second = refused(await ports.store.commit(await folded(ports.store, again)))
    assert list(second.known) == [(asked.workflow_key, asked.action_id)]
    assert (await snapshot(ports, asked.workflow_key)).version == 1


async def test_a_redriven_action_may_be_given_up_again(ports: Ports) -> None:
    asked = action(action_type="Raised", payload={"message": "first"})
    await committed(ports, asked)
    again = replace(asked, purpose="redrive")
    (outcome,) = await committed(ports, again)
    assert isinstance(outcome, ReducerGaveUp)
    assert reason_of(await remembered(ports, asked)) == "reducer_error"
    assert not settles(await remembered(ports, asked), again)
    reasons = [reason for _, reason in await ports.beside.gave_up(0)]
    assert reasons == ["reducer_error", "reducer_error"], "each time is recorded"


async def test_a_give_up_is_known_to_whoever_does_not_redrive_it(ports: Ports) -> None:
    asked, other = action(action_type="Refused"), action(action_type="Refused")
    await committed(ports, asked, other)
    both = await folded(ports.store, replace(asked, purpose="redrive"), other)
    known = refused(await ports.store.commit(both)).known
    assert list(known) == [(other.workflow_key, other.action_id)]


async def test_redriving_is_refused_whole_like_any_commit(ports: Ports) -> None:
    asked = action(action_type="Refused")
    await committed(ports, asked)
    stale = await folded(ports.store, replace(asked, type="Counted", purpose="redrive"))
    await committed(ports, action())
    assert refused(await ports.store.commit(stale)).stale == {asked.workflow_key: 1}
    assert reason_of(await remembered(ports, asked)) == "rejected"
    accepted(
        await ports.store.commit(
            await folded(ports.store, replace(asked, type="Counted", purpose="redrive"))
        )
    )


async def test_transitions_stand_on_their_own_topic_in_the_order_of_their_commits(
    ports: Ports,
) -> None:
    steps = [{"from": str(n), "to": str(n + 1)} for n in range(5)]
    for at_once in (steps[:3], steps[3:]):
        asked = [action("document:1", payload={"transition": step}) for step in at_once]
        await committed(ports, *asked)
    assert await ports.beside.transitions(0) == [(n + 1, step) for n, step in enumerate(steps)]
    page = await ports.intents.read(0, 1, 100)
    assert {entry.intent.intent_type for entry in page} == {"Kept"}  # type: ignore[union-attr]
