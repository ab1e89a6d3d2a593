"""The commands for dead letters: what could not be done, why, and trying it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from omninode_bridge.cli import output
from omninode_bridge.cli.apps import every_app
from omninode_bridge.cli.paging import pages
from omninode_bridge.cli.running import AsJson, DatabaseUrl, DataDir, find_place, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from omninode_bridge import Bridge
    from omninode_bridge.cli.running import Place
    from omninode_bridge.infrastructure.entities import ModelDeadLetter

dlq = typer.Typer(help="Look at dead letters, and try them again.", no_args_is_help=True)

COLUMNS = ["kind", "id", "workflow_key", "type", "reason", "attempts", "at", "reply_to", "detail"]
Reason = Annotated[
    str | None,
    typer.Option(help="Only those given up for this reason (dead: effects)."),
]


@dlq.command("list")
def list_letters(
    reason: Reason = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """List what is broken: give-ups as reducer_error or invalid, and dead effects."""

    async def look(place: Place) -> int:
        found = 0
        async with place.reading() as bridge:
            async for letters in pages(_reader(bridge, reason), limit):
                _print_letters(letters, as_json=as_json)
                found += len(letters)
        return found

    found = run(look(find_place(data_dir, database_url)))
    if not as_json:
        output.say(f"{found:,} dead {'letter' if found == 1 else 'letters'}")


@dlq.command("show")
def show_letter(
    letter_id: Annotated[UUID, typer.Argument(metavar="ID", help="Of an action, or an intent.")],
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show all that is stored of a dead letter; exit status 1 when there is none."""

    async def look(place: Place) -> Sequence[ModelDeadLetter]:
        async with place.reading() as bridge:
            return await bridge.dead_letter(letter_id)

    found = run(look(find_place(data_dir, database_url)))
    for letter in found:
        fields = {**_line(letter), "body": letter.body}
        if as_json:
            output.print_json(fields)
        else:
            output.print_object(f"{letter.workflow_key}: {letter.reason}", fields)
    if not found:
        output.say(f"{letter_id} is no dead letter: unknown, or done by now")
        raise typer.Exit(1)


@dlq.command("redrive")
def redrive_letters(
    letter_ids: Annotated[
        list[UUID] | None, typer.Argument(metavar="[ID]...", help="Of actions, or intents.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All that `dlq list` shows, but for runs.")
    ] = False,
    reason: Reason = None,
    force: Annotated[
        bool, typer.Option("--force", help="With ids: even what a run has asked for.")
    ] = False,
    app: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:OBJECT",
            help="Apply them here and now with this App; otherwise whoever runs it will.",
        ),
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Try dead letters again under their ids; exit status 1 when some are dead letters again.

    What a run asked for is that run's business: it has to be named, and forced.
    """
    ids = letter_ids or []
    if bool(ids) + every + (reason is not None) != 1:
        message = "name ids, or --all, or a --reason: one of them"
        raise typer.BadParameter(message)
    if force and not ids:
        message = "--force is for letters that are named by their ids"
        raise typer.BadParameter(message)

    async def work(bridge: Bridge, *, applied_here: bool) -> tuple[int, int | None]:
        redriven = dead_again = 0
        async for page in _named(bridge, ids) if ids else _all_but_those_of_runs(bridge, reason):
            sent = [letter for letter in page if await bridge.redrive(letter, force=force)]
            redriven += len(sent)
            if applied_here:
                await bridge.settled()
                again = [await bridge.dead_letter(letter.id) for letter in sent]
                dead_again += sum(map(bool, again))
        return redriven, dead_again if applied_here else None

    async def redrive(place: Place) -> tuple[int, int | None]:
        if app is None:
            async with place.reading() as bridge:
                return await work(bridge, applied_here=False)
        async with place.writing(await every_app(place, app)) as bridge:
            return await work(bridge, applied_here=True)

    redriven, dead_again = run(redrive(find_place(data_dir, database_url)))
    summary = {"redriven": redriven, "dead_again": dead_again}
    if as_json:
        output.print_json(summary)
    else:
        output.print_object("redriven", summary)
    if dead_again or (ids and redriven < len(ids)):
        raise typer.Exit(1)


async def _named(bridge: Bridge, ids: Sequence[UUID]) -> AsyncIterator[Sequence[ModelDeadLetter]]:
    """Yield the letters of these ids at once.

    Those of runs come first: what is refused is refused before anything is sent.
    """
    chosen = [letter for each in ids for letter in await bridge.dead_letter(each)]
    yield sorted(chosen, key=lambda letter: not letter.is_of_run)


async def _all_but_those_of_runs(
    bridge: Bridge, reason: str | None
) -> AsyncIterator[Sequence[ModelDeadLetter]]:
    """Yield all that `dlq list` shows but what runs asked for, and say how many those are."""
    of_runs = 0
    async for page in bridge.dead_letter_pages(reason=reason):
        others = [letter for letter in page if not letter.is_of_run]
        of_runs += len(page) - len(others)
        yield others
    if of_runs:
        output.say(f"{of_runs:,} left out: runs asked for them (`dlq list` shows which)")


def _reader(
    bridge: Bridge, reason: str | None
) -> Callable[[ModelDeadLetter | None, int], Awaitable[Sequence[ModelDeadLetter]]]:
    return lambda last, size: bridge.dead_letters(reason=reason, after=last, limit=size)


def _line(letter: ModelDeadLetter) -> dict[str, Any]:
    return {
        **{name: getattr(letter, name) for name in COLUMNS},
        "action_id": letter.action_id,
    }


def _print_letters(letters: Sequence[ModelDeadLetter], *, as_json: bool) -> None:
    if as_json:
        for letter in letters:
            output.print_json(_line(letter))
    elif letters:
        rows = [[*_cells(letter)] for letter in letters]
        output.print_rows(COLUMNS, rows)
    output.flush()


def _cells(letter: ModelDeadLetter) -> list[object]:
    """Return the cells of a row: of a traceback, the last line says what it was."""
    last = letter.detail.strip().splitlines()[-1:] or [""]
    line = {**_line(letter), "detail": last[0]}
    return [line[column] for column in COLUMNS]
