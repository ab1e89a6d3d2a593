"""`check`: how a folder differs from its stamps."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from omninode_bridge import Bridge, BridgeClosed
from omninode_bridge.stamping.asking import known_files, settle
from omninode_bridge.stamping.keys import check_namespace
from omninode_bridge.stamping.survey import (
    Problem,
    Progress,
    Survey,
    ignore_problem,
    ignore_progress,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from omninode_bridge.stamping.reading import Hashed


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a folder differs from its stamps: paths below the folder, sorted.

    `ok` is false when anything differs, and when anything could not be read.
    """

    ok: bool
    changed: list[str]
    missing: list[str]
    new: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, as `--json` prints them."""
        return asdict(self)


async def check(
    bridge: Bridge,
    folder: Path,
    namespace: str,
    *,
    exclude: frozenset[str] = frozenset(),
    left_out: Path | None = None,
    report: Callable[[Problem], None] = ignore_problem,
    progress: Callable[[Progress], None] = ignore_progress,
) -> Comparison:
    """Compare the files below `folder` with their stamps in `namespace`; change nothing.

    A file that cannot be read is `changed` if it has a stamp; below a folder that cannot be read,
    nothing is known. Neither is `ok`. A bridge opened for reading knows what is projected by now.

    Raises:
        ValueError: `namespace` is none.
        FileNotFoundError, NotADirectoryError: `folder` is none.
    """
    check_namespace(namespace)
    survey = Survey(
        folder, namespace, exclude=exclude, left_out=left_out, report=report, progress=progress
    )
    with suppress(BridgeClosed):  # opened for reading: it cannot hurry what is under way
        await settle(bridge, 0)
    known = await known_files(bridge, namespace)
    stamped = {path: file.file_hash for path, file in known.items() if file.stamped}
    changed: list[str] = []
    missing: list[str] = []
    new: list[str] = []

    async def compare(files: list[Hashed]) -> None:
        for file in files:
            file_hash = stamped.pop(file.path, None)
            if file_hash is None:
                new.append(file.path)
            elif file_hash != file.file_hash:
                changed.append(file.path)

    await survey.each(compare)
    for path in stamped:  # those nobody has seen
        if not survey.is_unknown(path):
            missing.append(path)
        elif survey.could_not_read(path):
            changed.append(path)
    ok = not (changed or missing or new or survey.failed)
    return Comparison(ok, sorted(changed), sorted(missing), sorted(new))
