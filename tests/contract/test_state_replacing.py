"""The contract of `StateReplacing`: compare and set for one key, through the one commit path."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from omninode_bridge.core.errors import InvalidAction
from omninode_bridge.core.message import Provenance, ReducerGaveUp, StateCommitted, StateConflict
from omninode_bridge.core.partition import partition_of
from tests.contract.batches import everything
from tests.contract.ports import AT, PARTITIONS

if TYPE_CHECKING:
    from tests.contract.ports import Ports

KEY = "counter:1"
STATE = {"count": 1, "total": 7}


def provenance(action_id: UUID) -> Provenance:
    return Provenance(uuid4(), AT, action_id, "StateReplaced", 3, uuid4(), uuid4(), "")


async def test_a_key_at_the_expected_version_has_the_new_state(ports: Ports) -> None:
    given = provenance(uuid4())
    outcome = await ports.replacing.try_commit(KEY, 0, STATE, given)
    assert isinstance(outcome, StateCommitted)
    assert (outcome.version, outcome.commit_offset, outcome.action_id) == (1, 1, given.action_id)
    told = outcome.provenance
    assert (told.effect_id, told.epoch, told.lease_id) == (given.effect_id, 3, given.lease_id)
    assert (told.correlation_id, told.action_type) == (given.correlation_id, "StateReplaced")
    assert (await ports.store.read([KEY]))[KEY].state == b'{"count":1,"total":7}'


async def test_a_stale_version_conflicts_and_changes_nothing(ports: Ports) -> None:
    await ports.replacing.try_commit(KEY, 0, STATE)
    before = await everything(ports, [KEY])
    action_id = uuid4()
    answer = await ports.replacing.try_commit(KEY, 0, STATE, provenance(action_id))
    assert answer == StateConflict(KEY, 0, 1, action_id)
    assert await everything(ports, [KEY]) == before


async def test_the_same_id_gets_the_first_outcome(ports: Ports) -> None:
    given = provenance(uuid4())
    first = await ports.replacing.try_commit(KEY, 0, STATE, given)
    assert await ports.replacing.try_commit(KEY, 0, STATE, given) == first
    with pytest.raises(InvalidAction, match="was used for something else"):
        await ports.replacing.try_commit(KEY, 1, {"count": 9, "total": 9}, given)


async def test_of_several_at_once_one_wins_and_each_other_is_told_the_version(
    ports: Ports,
) -> None:
    answers = await asyncio.gather(
        *(ports.replacing.try_commit(KEY, 0, {"count": n, "total": n}) for n in range(5))
    )
    assert sum(isinstance(answer, StateCommitted) for answer in answers) == 1
    lost = [answer for answer in answers if isinstance(answer, StateConflict)]
    assert [(answer.expected_version, answer.actual_version) for answer in lost] == [(0, 1)] * 4


async def test_what_cannot_be_committed_changes_nothing(ports: Ports) -> None:
    before = await everything(ports, [KEY])
    with pytest.raises(ValueError, match="cannot be committed"):
        await ports.replacing.try_commit(KEY, 0, {"no": "count"})
    with pytest.raises(ValueError, match="no reducer is registered"):
        await ports.replacing.try_commit("unknown:1", 0, {})
    with pytest.raises(InvalidAction):
        await ports.replacing.try_commit("nokey", 0, {})
    assert await everything(ports, [KEY]) == before


async def test_an_epoch_that_is_past_is_an_outcome_that_is_remembered(ports: Ports) -> None:  # R3
    key = "fenced:1"
    partition = partition_of(key, PARTITIONS)
    first = replace(provenance(uuid4()), epoch=4, lease_id=UUID(int=1))
    assert isinstance(await ports.replacing.try_commit(key, 0, STATE, first), StateCommitted)
    before = await ports.store.read([key])
    for epoch, lease_id, reason in (
        (3, UUID(int=1), "stale_epoch"),
        (4, UUID(int=2), "lease_mismatch"),
    ):
        late = replace(provenance(uuid4()), epoch=epoch, lease_id=lease_id)
        answer = await ports.replacing.try_commit(key, 1, STATE, late)
        assert isinstance(answer, ReducerGaveUp)
        assert (answer.reason, answer.version, answer.action_id) == (reason, 1, late.action_id)
        assert await ports.replacing.try_commit(key, 1, STATE, late) == answer
        assert (await ports.beside.gave_up(partition))[-1] == (late.action_id, reason)
    assert len(await ports.beside.gave_up(partition)) == 2
    assert await ports.store.read([key]) == before
    following = replace(provenance(uuid4()), epoch=5)
    assert isinstance(await ports.replacing.try_commit(key, 1, STATE, following), StateCommitted)


@pytest.mark.parametrize("epoch", [2**63, 2**64, -1])
async def test_an_epoch_that_cannot_be_stored_is_an_invalid_action(
    ports: Ports, epoch: int
) -> None:
    with pytest.raises(InvalidAction) as error:
        await ports.replacing.try_commit(KEY, 0, STATE, replace(provenance(uuid4()), epoch=epoch))
    assert error.value.field == "epoch"
