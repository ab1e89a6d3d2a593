"""The command that serves an application until it is told to end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from omninode_bridge import OwnershipChanged
from omninode_bridge.cli import output
from omninode_bridge.cli.apps import load
from omninode_bridge.cli.running import AsJson, DatabaseUrl, DataDir, find_place
from omninode_bridge.cli.running import run as run_work

if TYPE_CHECKING:
    from omninode_bridge import App, Observation
    from omninode_bridge.cli.running import Place

TOGETHER_S = 0.2
"""Changes that come within this time are told in one line."""


class Owned:
    """Which partitions are served here, told to a person whenever that has changed."""

    def __init__(self, *, as_json: bool) -> None:
        """Begin with none."""
        self._as_json = as_json
        self._owned: set[int] = set()
        self._changed = asyncio.Event()

    def observe(self, observation: Observation) -> None:
        """Keep what changes."""
        match observation:
            case OwnershipChanged(partition, "taken"):
                self._owned.add(partition)
                self._changed.set()
            case OwnershipChanged(partition):
                self._owned.discard(partition)
                self._changed.set()
            case _:
                pass

    async def tell(self, app: App) -> None:
        """Say that we are ready, then what changes, until cancelled."""
        told = sorted(self._owned)
        if self._as_json:
            output.print_json({"ready": app.name, "partitions": told})
            output.flush()
        else:
            output.say(f"{app.name} is served; partitions here: {_numbers(told)}")
        while True:
            await self._changed.wait()
            await asyncio.sleep(TOGETHER_S)
            self._changed.clear()
            if sorted(self._owned) != told:
                told = sorted(self._owned)
                output.say(f"partitions here: {_numbers(told)}")


def serve(
    context: typer.Context,
    app: Annotated[
        str | None, typer.Option("--app", metavar="MODULE:OBJECT", help="The App to serve.")
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Serve an application until SIGTERM or SIGINT; or, with `show ID`, look at one run.

    Started several times on one server, the processes share its partitions.
    """
    if context.invoked_subcommand is not None:
        if (app, data_dir, database_url, as_json) != (None, None, None, False):
            message = f"options belong behind `{context.invoked_subcommand}`"
            raise typer.BadParameter(message)
        return
    if app is None:
        message = "say which application to serve: --app module:object"
        raise typer.BadParameter(message)
    run_work(_serve(find_place(data_dir, database_url), load(app), as_json=as_json))


async def _serve(place: Place, app: App, *, as_json: bool) -> None:
    owned = Owned(as_json=as_json)
    async with place.writing(app, owned.observe):
        await owned.tell(app)


def _numbers(partitions: list[int]) -> str:
    return ", ".join(map(str, partitions)) or "none"
