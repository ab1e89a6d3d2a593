"""Two processes made to own one partition by force: the loser makes nothing durable (R12)."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from omninode_bridge import Bridge, LoopStumbled, Observation, OwnershipChanged
from tests.bridges import app, fetch, until


async def test_the_loser_makes_nothing_durable_not_even_a_rejection(database_url: str) -> None:
    seen: list[Observation] = []
    intruder = uuid4()
    async with Bridge.open(app, database_url=database_url, partitions=1, observe=seen.append) as b:
        await b.submit("counter:1", "Counted", {"amount": 1})
        # By force: the lease is another's now, for a minute, whatever the first owner believes.
        await fetch(
            database_url,
            "UPDATE event_log_partitions SET owner = $1, lease_until = now() + '1 minute'",
            intruder,
        )
        before = await written(database_url)
        refused = asyncio.create_task(b.submit("counter:1", "Refused", {}, timeout=2))
        counted = asyncio.create_task(b.submit("counter:2", "Counted", {"amount": 1}, timeout=2))
        answers = await asyncio.gather(refused, counted, return_exceptions=True)
        assert [type(answer).__name__ for answer in answers] == ["OutcomeUnknown"] * 2
        assert await written(database_url) == before
        lost = [o for o in seen if isinstance(o, OwnershipChanged) and o.change == "lost"]
        assert len(lost) == 1


async def test_what_the_loser_was_asked_is_decided_by_the_winner(database_url: str) -> None:
    async with Bridge.open(app, database_url=database_url, partitions=1) as loser:
        await loser.submit("counter:1", "Counted", {"amount": 1})
        # The lease is gone, and the winner, who opens now, finds it free.
        await fetch(
            database_url, "UPDATE event_log_partitions SET owner = $1, lease_until = now()", uuid4()
        )
        async with Bridge.open(app, database_url=database_url):
            asked = [loser.submit(f"counter:{n}", "Counted", {"amount": 1}) for n in range(10)]
            refused = loser.submit("counter:1", "Refused", {})
            *outcomes, rejection = await asyncio.gather(*asked, refused)
            versions = {o.workflow_key: o.committed().version for o in outcomes}
            assert versions == {f"counter:{n}": 1 + (n == 1) for n in range(10)}
            assert getattr(rejection, "reason", None) == "rejected"


async def test_the_process_that_lost_takes_the_partition_again_when_it_is_free(
    database_url: str,
) -> None:
    seen: list[Observation] = []
    async with Bridge.open(app, database_url=database_url, partitions=1, observe=seen.append) as b:
        await fetch(
            database_url,
            "UPDATE event_log_partitions SET owner = $1, lease_until = now() + '1 second'",
            uuid4(),
        )
        outcome = await b.submit("counter:1", "Counted", {"amount": 1}, timeout=15)
        assert outcome.committed().version == 1
        taken = [o for o in seen if isinstance(o, OwnershipChanged) and o.change == "taken"]
        assert len(taken) == 2
        await until(lambda: any(isinstance(o, LoopStumbled) for o in seen), "a loop to say so")


async def written(database_url: str) -> list[tuple[object, ...]]:
    """Return how many rows each table has that an action could have written to."""
    rows = await fetch(
        database_url,
        """
        SELECT (SELECT count(*) FROM workflow_state), (SELECT count(*) FROM action_dedup_log),
               (SELECT count(*) FROM event_log_state_committed),
               (SELECT count(*) FROM event_log_reducer_gave_up),
               (SELECT count(*) FROM event_log_intent)
        """,
    )
    return [tuple(row) for row in rows]
