"""A program that stamps, or checks, one folder on the database of a data folder.

    python stamping_user.py stamp|prune|check DATA_FOLDER FOLDER NAMESPACE

It says `begun` when the first files are done. Its last line is an object: what came of it, and the
problems that were reported.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from omninode_bridge import Bridge
from omninode_bridge.stamping import Problem, Progress, app, check, stamp


def say(words: str) -> None:
    """Write a line at once."""
    os.write(1, f"{words}\n".encode())


async def main() -> None:
    """Do as the command line says."""
    mode, data_dir, folder, namespace = sys.argv[1:]
    problems: list[tuple[str, str, str]] = []
    begun = False

    def report(problem: Problem) -> None:
        problems.append((problem.name, problem.kind, problem.reason))

    def progress(now: Progress) -> None:
        nonlocal begun
        if now.files_done and not begun:
            begun = True
            say("begun")

    async with Bridge.open(app, data_dir=data_dir) as bridge:
        if mode == "check":
            found = (await check(bridge, Path(folder), namespace, report=report)).as_dict()
        else:
            prune = mode == "prune"
            summary = await stamp(
                bridge, Path(folder), namespace, prune=prune, report=report, progress=progress
            )
            found = summary.as_dict()
    say(json.dumps({"found": found, "problems": problems}))


if __name__ == "__main__":
    asyncio.run(main())
