"""The commands of the stamping application."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omninode_bridge import stamping
from omninode_bridge.cli import output
from omninode_bridge.cli.progress import counting
from omninode_bridge.cli.running import AsJson, DatabaseUrl, DataDir, find_place, run

if TYPE_CHECKING:
    from omninode_bridge.cli.running import Place

LISTED_MAX = 20
"""How many paths of a kind `check` shows to a person; `--json` has all."""

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="DIR", exists=True, file_okay=False, help="The folder whose files are meant."
    ),
]
Namespace = Annotated[
    str, typer.Option("--namespace", metavar="NS", help="Where their totals are kept.")
]
Excluded = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="NAME",
        help="Leave out files and folders of this name, wherever they are; may be given again.",
        show_default=False,
    ),
]


def stamp(
    folder: Folder,
    namespace: Namespace,
    exclude: Excluded = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Take files that are gone out of the totals.")
    ] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Stamp the new and changed files below DIR, and keep exact totals of the namespace.

    Run again, it commits nothing for what is unchanged. Exit status 1: some files could not be
    stamped (they are named); the others are.
    """
    _require_namespace(namespace)
    place = find_place(data_dir, database_url)
    _require_outside(folder, place)
    summary = run(_stamp(place, folder, namespace, frozenset(exclude or ()), prune=prune))
    if as_json:
        output.print_json(summary.as_dict())
    else:
        output.print_object("stamped", summary.as_dict())
    raise typer.Exit(1 if summary.failed else 0)


def check(
    folder: Folder,
    namespace: Namespace,
    exclude: Excluded = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Compare the files below DIR with their stamps; exit status 1 when they differ."""
    _require_namespace(namespace)
    place = find_place(data_dir, database_url)
    _require_outside(folder, place)
    found = run(_check(place, folder, namespace, frozenset(exclude or ())))
    if as_json:
        output.print_json(found.as_dict())
    else:
        _show_comparison(found)
    raise typer.Exit(0 if found.ok else 1)


async def _stamp(
    place: Place, folder: Path, namespace: str, exclude: frozenset[str], *, prune: bool
) -> stamping.Summary:
    async with place.writing(stamping.app) as bridge:
        with counting("files") as counter:
            return await stamping.stamp(
                bridge,
                folder,
                namespace,
                prune=prune,
                exclude=exclude,
                left_out=place.data_dir,
                report=_report,
                progress=lambda now: counter(now.files_done, now.files_found),
            )


async def _check(
    place: Place, folder: Path, namespace: str, exclude: frozenset[str]
) -> stamping.Comparison:
    async with place.reading(stamping.app) as bridge:
        with counting("files") as counter:
            return await stamping.check(
                bridge,
                folder,
                namespace,
                exclude=exclude,
                left_out=place.data_dir,
                report=_report,
                progress=lambda now: counter(now.files_done, now.files_found),
            )


def _report(problem: stamping.Problem) -> None:
    output.say(f"{problem.kind}: {problem.name}: {problem.reason}")


def _show_comparison(found: stamping.Comparison) -> None:
    differing = (("changed", found.changed), ("missing", found.missing), ("new", found.new))
    output.print_object(
        "as stamped" if found.ok else "not as stamped",
        {what: len(paths) for what, paths in differing},
    )
    for what, paths in differing:
        if paths:
            output.print_rows([what], [[path] for path in paths[:LISTED_MAX]])
        if len(paths) > LISTED_MAX:
            output.say(f"{len(paths) - LISTED_MAX:,} more are {what}: --json lists them all")


def _require_namespace(namespace: str) -> None:
    try:
        stamping.check_namespace(namespace)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'--namespace'") from error


def _require_outside(folder: Path, place: Place) -> None:
    """Refuse to stamp the database itself: it changes while it is read."""
    if place.data_dir is not None and folder.resolve().is_relative_to(place.data_dir.resolve()):
        raise typer.BadParameter("is in the data folder of the database", param_hint="'DIR'")
