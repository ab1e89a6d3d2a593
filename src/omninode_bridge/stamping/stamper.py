"""`stamp`: brings the stamps of a namespace up to what a folder holds now."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from omninode_bridge import Action, Bridge, Outcome, ReducerGaveUp, StateCommitted
from omninode_bridge.stamping.asking import NEVER_SEEN, Known, ask, known_files, settle
from omninode_bridge.stamping.content_types import content_type_of
from omninode_bridge.stamping.files import REMOVE_FILE, STAMP_FILE
from omninode_bridge.stamping.keys import check_namespace, file_key, removal_id, stamp_id
from omninode_bridge.stamping.survey import (
    Problem,
    Progress,
    Survey,
    ignore_problem,
    ignore_progress,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from omninode_bridge.stamping.reading import Hashed

REMOVALS_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run of `stamp` found and did.

    `files` were found and read, of `bytes` in all: `new`, `changed` or `unchanged` since their
    stamps. `removed` are stamps of files that are gone. `skipped` and `failed` were reported by
    name. `actions` are those that this run committed on the keys of files.
    """

    namespace: str
    files: int
    new: int
    changed: int
    unchanged: int
    removed: int
    skipped: int
    failed: int
    bytes: int
    actions: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, as `--json` prints them."""
        return asdict(self)


async def stamp(
    bridge: Bridge,
    folder: Path,
    namespace: str,
    *,
    prune: bool = False,
    exclude: frozenset[str] = frozenset(),
    left_out: Path | None = None,
    report: Callable[[Problem], None] = ignore_problem,
    progress: Callable[[Progress], None] = ignore_progress,
) -> Summary:
    """Stamp each file below `folder` that is new or changed since its stamp in `namespace`.

    When it returns, the totals of `namespace` are committed and projected. Killed at any moment and
    run again, it leaves the same totals. `prune` takes files that are gone out of them. `exclude`
    are names: entries named so are left out, wherever they stand, as if they were not there; so is
    the folder `left_out` (where the database itself lives, say). What cannot be stamped is told to
    `report` and ends nothing; `progress` is called some ten times a second.

    Raises:
        ValueError: `namespace` is none.
        FileNotFoundError, NotADirectoryError: `folder` is none; nothing was committed.
        OutcomeUnknown, DatabaseUnavailable: an outage that did not end; run it again.
        TimeoutError: the bridge does not settle.
    """
    began = monotonic()
    check_namespace(namespace)
    survey = Survey(
        folder, namespace, exclude=exclude, left_out=left_out, report=report, progress=progress
    )
    await settle(bridge, 0)
    known = await known_files(bridge, namespace)
    stamping = _Stamping(bridge, namespace, survey, known)
    await survey.each(stamping.take)
    if prune:
        await stamping.remove_gone()
    await settle(bridge, survey.files)
    return Summary(
        namespace=namespace,
        files=survey.files,
        new=stamping.new,
        changed=stamping.changed,
        unchanged=stamping.unchanged,
        removed=stamping.removed,
        skipped=survey.skipped,
        failed=survey.failed,
        bytes=survey.bytes,
        actions=stamping.new + stamping.changed + stamping.removed,
        seconds=round(monotonic() - began, 3),
    )


class _Stamping:
    """A run of `stamp`: what it knew, and what became of what it asked.

    Its id is the correlation id of all it asks. When another run has asked the same, under the same
    id, the outcome is that run's, and so is the action that was committed.
    """

    def __init__(
        self, bridge: Bridge, namespace: str, survey: Survey, known: dict[str, Known]
    ) -> None:
        self._bridge = bridge
        self._namespace = namespace
        self._survey = survey
        self._known = known
        self._run_id = uuid4()
        self.new = self.changed = self.unchanged = self.removed = 0

    async def take(self, files: list[Hashed]) -> None:
        """Stamp those of `files` that are new or changed."""
        now = datetime.now(UTC)
        asked: list[tuple[Hashed, Known]] = []
        actions: list[Action] = []
        for file in files:
            known = self._known.pop(file.path, NEVER_SEEN)
            if known.stamped and known.file_hash == file.file_hash:
                self.unchanged += 1
            else:
                asked.append((file, known))
                actions.append(self._stamp_file(file, known.version, now))
        for (file, known), outcome in zip(asked, await self._ask(actions), strict=True):
            match outcome:
                case StateCommitted() if not self._is_ours(outcome):
                    self.unchanged += 1  # another run was first
                case StateCommitted() if known.stamped:
                    self.changed += 1
                case StateCommitted():
                    self.new += 1
                case ReducerGaveUp(reason="rejected"):
                    self.unchanged += 1  # likewise: it is stamped with this very hash
                case ReducerGaveUp():
                    self._survey.fail(file.path, _given_up(outcome))

    async def remove_gone(self) -> None:
        """Take the stamps of files that are gone out of the totals. Call it last."""
        gone = [
            (path, known)
            for path, known in self._known.items()
            if known.stamped and not self._survey.is_unknown(path)
        ]
        for first in range(0, len(gone), REMOVALS_AT_ONCE):
            now = datetime.now(UTC)
            some = gone[first : first + REMOVALS_AT_ONCE]
            actions = [self._remove_file(path, known, now) for path, known in some]
            for (path, _), outcome in zip(some, await self._ask(actions), strict=True):
                match outcome:
                    case StateCommitted():
                        self.removed += self._is_ours(outcome)
                    case ReducerGaveUp(reason="rejected"):
                        pass  # another run has removed it first, or stamped it anew
                    case ReducerGaveUp():
                        self._survey.fail(path, _given_up(outcome))

    async def _ask(self, actions: Sequence[Action]) -> Sequence[Outcome]:
        return await ask(self._bridge, actions) if actions else ()

    def _is_ours(self, outcome: StateCommitted) -> bool:
        return outcome.provenance.correlation_id == self._run_id

    def _stamp_file(self, file: Hashed, version: int, now: datetime) -> Action:
        key = file_key(self._namespace, file.path)
        payload = {
            "file_hash": file.file_hash,
            "file_size": file.size,
            "content_type": content_type_of(file.path),
        }
        action_id = stamp_id(key, version, file.file_hash)
        return Action(action_id, key, STAMP_FILE, payload, now, correlation_id=self._run_id)

    def _remove_file(self, path: str, known: Known, now: datetime) -> Action:
        key = file_key(self._namespace, path)
        payload = {"file_hash": known.file_hash}
        action_id = removal_id(key, known.version)
        return Action(action_id, key, REMOVE_FILE, payload, now, correlation_id=self._run_id)


def _given_up(outcome: ReducerGaveUp) -> str:
    last_line = outcome.detail.strip().rpartition("\n")[2]
    return f"given up ({outcome.reason}): {last_line}"
