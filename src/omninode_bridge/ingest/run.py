"""Ingesting a file: each row an action, once, in the order of the file for each key.

Rule 1: the contract is durable before the first row of it.
Rule 2: rows are handed over in the order of the file, by one task.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final

from omninode_bridge import ConfigurationError, InvalidAction, StateCommitted
from omninode_bridge.ingest.csv_file import open_csv
from omninode_bridge.ingest.errors import InvalidFile, InvalidRow
from omninode_bridge.ingest.pipeline import Pipeline
from omninode_bridge.ingest.rows import Row, RowReader
from omninode_bridge.ingest.stored import store
from omninode_bridge.ingest.summary import Progress, Summary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from omninode_bridge import Bridge, Outcome
    from omninode_bridge.ingest.contract import Contract
    from omninode_bridge.ingest.csv_file import CsvFile

CHUNK_ROWS: Final = 500
SETTLE_WAIT_S: Final = 600.0
PROGRESS_S: Final = 0.1


async def ingest(
    bridge: Bridge,
    file: Path,
    contract: Contract,
    *,
    strict: bool = False,
    report: Callable[[InvalidRow], None] = lambda _: None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Summary:
    """Make each row of `file` an action on its key; return when the projection shows them all.

    `bridge` was opened with `app_of` the stored contracts and this one. Outcomes are remembered for
    ever: a second run of the file commits nothing, and a run after an interrupted one goes on.
    `report` is told each row that is skipped, and each that was given up for another reason than
    the contract's. With `strict` the file is first read whole, and if any row is invalid, nothing
    is stored. `progress` is told up to ten times a second, from the start again for the second
    reading.

    Raises:
        ContractError: the contract fits neither the file nor the stored contracts.
        InvalidFile: the file cannot be read, or not to its end. What was read is committed then,
            but not with `strict`; the error's `summary` tells.
        OutcomeUnknown: the database has not answered for five minutes. Run it again.
        GaveUp: the contract was given up, since another process decides and knows no contracts.
    """
    if (contract.key_type, contract.version) not in bridge.app.every_version():
        message = f"open the bridge with app_of([..., contract]): it lacks {contract.name!r}"
        raise ConfigurationError(message)
    run = _Run(bridge, contract, report, progress)
    if strict:
        checked = _Run(bridge, contract, report, progress)
        await checked.check(file)
        if checked.invalid:
            return checked.summary()
    await run.commit(file)
    return run.summary()


class _Run:
    """One reading of the file, and its counts."""

    def __init__(
        self,
        bridge: Bridge,
        contract: Contract,
        report: Callable[[InvalidRow], None],
        progress: Callable[[Progress], None],
    ) -> None:
        self._bridge = bridge
        self._contract = contract
        self._report = report
        self._progress = progress
        self._progress_due = 0.0
        self._began = monotonic()
        self._file = ""
        self._rows = 0
        self._keys: set[str] = set()
        self._actions = 0
        self._committed = 0
        self._duplicates = 0
        self._rejected = 0
        self.invalid = 0

    async def check(self, file: Path) -> None:
        """Read the file to its end, and report what is invalid."""
        with open_csv(file) as table:
            reader = self._reader(table)
            try:
                async for rows in self._chunks(table, reader):
                    self._storable(rows)
            except InvalidFile as error:
                error.summary = self.summary()
                raise

    async def commit(self, file: Path) -> None:
        """Store the contract, then commit the rows."""
        with open_csv(file) as table:
            reader = self._reader(table)
            await store(self._bridge, self._contract)
            pipeline = Pipeline(self._bridge, self._answered)
            try:
                async for rows in self._chunks(table, reader):
                    await self._put(pipeline, rows)
            except InvalidFile as error:
                await pipeline.finish()
                error.summary = self.summary()
                raise
            await pipeline.finish()
            await self._bridge.settled(SETTLE_WAIT_S)

    def summary(self) -> Summary:
        """Return the counts so far."""
        return Summary(
            rows=self._rows,
            actions=self._actions,
            keys=len(self._keys),
            committed=self._committed,
            duplicates=self._duplicates,
            rejected=self._rejected,
            invalid=self.invalid,
            seconds=round(monotonic() - self._began, 3),
        )

    def _reader(self, table: CsvFile) -> RowReader:
        self._file = table.name
        return RowReader(self._contract, table.header, table.name)

    async def _chunks(self, table: CsvFile, reader: RowReader) -> AsyncIterator[list[Row]]:
        """Yield the good rows, chunk after chunk; report the others."""
        rows = reader.read(table.records())
        more = True
        while more:
            # In a thread: the disk may be slow, and the loop has commits to look after.
            chunk, error = await asyncio.to_thread(_take, rows)
            more = len(chunk) == CHUNK_ROWS
            self._rows += len(chunk)
            for row in chunk:
                if isinstance(row, InvalidRow):
                    self._skip(row)
            self._tell_progress(table, last=not more)
            yield [row for row in chunk if isinstance(row, Row)]
            if error is not None:
                raise error

    async def _put(self, pipeline: Pipeline, rows: list[Row]) -> None:
        try:
            await pipeline.put(rows)
        except InvalidAction:
            rows = self._storable(rows)
            await pipeline.put(rows)
        self._actions += len(rows)
        self._keys.update(row.action.workflow_key for row in rows)

    def _storable(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows that the bridge can store; report the others."""
        good: list[Row] = []
        for row in rows:
            try:
                self._bridge.check(row.action)
            except InvalidAction as error:
                self._skip(InvalidRow(self._file, row.line, str(error)))
            else:
                good.append(row)
        return good

    def _skip(self, row: InvalidRow) -> None:
        self.invalid += 1
        self._report(row)

    def _answered(self, row: Row, outcome: Outcome) -> None:
        if outcome.duplicate:
            self._duplicates += 1
        elif isinstance(outcome, StateCommitted):
            self._committed += 1
        else:
            self._rejected += 1
            if outcome.reason != "rejected":
                reason = f"given up ({outcome.reason}): {outcome.detail}"
                self._report(InvalidRow(self._file, row.line, reason))

    def _tell_progress(self, table: CsvFile, *, last: bool) -> None:
        now = monotonic()
        if last or now >= self._progress_due:
            self._progress_due = now + PROGRESS_S
            self._progress(Progress(table.bytes_read, table.bytes_total, self._rows))


def _take(rows: Iterator[Row | InvalidRow]) -> tuple[list[Row | InvalidRow], InvalidFile | None]:
    """Take a chunk; where the file cannot be read on, it is shorter and there is an error."""
    chunk: list[Row | InvalidRow] = []
    try:
        for row in rows:
            chunk.append(row)
            if len(chunk) == CHUNK_ROWS:
                break
    except InvalidFile as error:
        return chunk, error
    return chunk, None
