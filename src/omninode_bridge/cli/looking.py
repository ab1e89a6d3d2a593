"""The commands that look: at states, projections, histories, outcomes, and whether all of it fits.

They run beside whoever writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from omninode_bridge import InvalidAction
from omninode_bridge.cli import output
from omninode_bridge.cli.apps import every_app
from omninode_bridge.cli.paging import pages
from omninode_bridge.cli.progress import counting
from omninode_bridge.cli.running import AsJson, DatabaseUrl, DataDir, find_place, run
from omninode_bridge.core.message import check_workflow_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omninode_bridge import Bridge
    from omninode_bridge.cli.running import Place
    from omninode_bridge.infrastructure.entities import ModelWorkflowProjection
    from omninode_bridge.services.verifier import Verification

MISMATCHES_SHOWN = 20


def _checked_key(key: str | None) -> str | None:
    try:
        return key and check_workflow_key(key)
    except InvalidAction as error:
        raise typer.BadParameter(error.detail) from error


Key = Annotated[
    str,
    typer.Argument(metavar="KEY", help="A workflow key: type:id.", callback=_checked_key),
]


def show(
    key: Key, data_dir: DataDir = None, database_url: DatabaseUrl = None, as_json: AsJson = False
) -> None:
    """Show the canonical state of KEY; exit status 1 when nobody has ever changed it."""

    async def look(place: Place) -> dict[str, Any] | None:
        async with place.reading() as bridge:
            row = await bridge.state(key)
            return None if row is None else row.model_dump()

    found = run(look(find_place(data_dir, database_url)))
    if found is None:
        output.say(f"nothing was ever committed on {key}")
        raise typer.Exit(1)
    if as_json:
        output.print_json(found)
    else:
        output.print_object(key, found)


def list_keys(
    namespace: Annotated[str | None, typer.Option(help="Only of this namespace.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only with this tag.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    after: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Only those above this key.", callback=_checked_key),
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """List projections in the order of their keys."""

    async def look(place: Place) -> int:
        found = 0
        async with place.reading() as bridge:

            async def read(
                last: ModelWorkflowProjection | None, size: int
            ) -> Sequence[ModelWorkflowProjection]:
                above = after if last is None else last.workflow_key
                return await bridge.list(namespace=namespace, tag=tag, after=above, limit=size)

            async for rows in pages(read, limit):
                _print_projections([row.model_dump() for row in rows], as_json=as_json)
                found += len(rows)
        return found

    found = run(look(find_place(data_dir, database_url)))
    if not as_json:
        output.say(f"{found:,} {'key' if found == 1 else 'keys'}")


def history(
    key: Key, data_dir: DataDir = None, database_url: DatabaseUrl = None, as_json: AsJson = False
) -> None:
    """List every version of KEY with its action; exit status 1 when there is none."""

    async def look(place: Place) -> int:
        versions = 0
        async with place.reading() as bridge:

            async def read(last: dict[str, Any] | None, size: int) -> Sequence[dict[str, Any]]:
                above = 0 if last is None else last["version"]
                return await bridge.history(key, after=above, limit=size)

            async for rows in pages(read, None):
                _print_versions(rows, as_json=as_json)
                versions += len(rows)
        return versions

    if not run(look(find_place(data_dir, database_url))):
        output.say(f"nothing was ever committed on {key}")
        raise typer.Exit(1)


def explain(
    action_id: Annotated[UUID, typer.Argument(metavar="ACTION_ID", help="The id of an action.")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Tell what became of an action: outcome, version, intents; exit status 1 when unknown."""

    async def look(place: Place) -> Sequence[dict[str, Any]]:
        async with place.reading() as bridge:
            return await bridge.explain(action_id)

    found = run(look(find_place(data_dir, database_url)))
    for each in found:
        if as_json:
            output.print_json(each)
        else:
            output.print_object(f"{each['workflow_key']}: {each['outcome']}", each)
    if not found:
        output.say(f"no action {action_id} was decided here; it may never have arrived")
        raise typer.Exit(1)


def verify(
    app: Annotated[
        str | None,
        typer.Option(metavar="MODULE:OBJECT", help="The App with the reducers of your key types."),
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Fold the whole history again and compare hashes, chains, states and projections.

    Exit status 1 when anything differs. What a reducer made that is not registered here cannot be
    folded again; its chain is checked, and it is named.
    """

    async def look(place: Place) -> Verification:
        everything = await every_app(place, app)
        async with place.reading(everything) as bridge:
            return await _verify(bridge)

    found = run(look(find_place(data_dir, database_url)))
    for reducer, entries in sorted(found.unregistered.items()):
        output.say(
            f"reducer {reducer} is not registered: of its {entries:,} actions only the chain was"
            " checked (--app names the App that has it)"
        )
    summary = {"keys": found.keys, "actions": found.actions, "mismatches": found.mismatches}
    if as_json:
        output.print_json(summary)
    else:
        _show_verification(found)
    if found.mismatches_found > len(found.mismatches):
        output.say(f"{found.mismatches_found:,} mismatches in all; only the first are listed")
    raise typer.Exit(1 if found.mismatches_found else 0)


async def _verify(bridge: Bridge) -> Verification:
    with counting("actions") as counter:
        return await bridge.verify(lambda now: counter(now.actions, 0))


def _show_verification(found: Verification) -> None:
    output.print_object(
        "differs" if found.mismatches_found else "verified",
        {"keys": found.keys, "actions": found.actions, "mismatches": found.mismatches_found},
    )
    shown = found.mismatches[:MISMATCHES_SHOWN]
    if shown:
        columns = list(shown[0])
        output.print_rows(columns, [[each[column] for column in columns] for each in shown])


def _print_projections(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            output.print_json(row)
    elif rows:
        columns = ["workflow_key", "version", "tag", "namespace", "last_action", "updated_at"]
        output.print_rows(columns, [[row[column] for column in columns] for row in rows])
    output.flush()


def _print_versions(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            output.print_json(row)
    else:
        output.print_rows(
            ["version", "committed_at", "type", "payload", "action_id"],
            [
                [
                    row["version"],
                    row["committed_at"],
                    row["action"]["type"],
                    row["action"]["payload"],
                    row["action"]["action_id"],
                ]
                for row in rows
            ],
        )
    output.flush()
