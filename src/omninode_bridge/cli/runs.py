"""The commands that look at runs: which there are, and how far one is, step by step."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omninode_bridge import InvalidAction
from omninode_bridge.cli import output
from omninode_bridge.cli.paging import pages
from omninode_bridge.cli.running import AsJson, DatabaseUrl, DataDir, find_place
from omninode_bridge.cli.running import run as run_work
from omninode_bridge.core.message import check_workflow_key
from omninode_bridge.core.orchestration import run_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omninode_bridge import RunOutcome, StepOutcome
    from omninode_bridge.cli.running import Place
    from omninode_bridge.infrastructure.entities import ModelWorkflowProjection


run = typer.Typer(help="Serve an application; or, with `show`, look at one run.")


def _checked_id(workflow_id: str | None) -> str | None:
    try:
        return workflow_id and check_workflow_key(run_key(workflow_id)).partition(":")[2]
    except InvalidAction as error:
        raise typer.BadParameter(error.detail) from error


RunId = Annotated[
    str,
    typer.Argument(metavar="ID", help="The workflow id of a run.", callback=_checked_id),
]


@run.command()
def show(
    workflow_id: RunId,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show how far the run ID is, step by step; exit status 1 when it was never started."""

    async def look(place: Place) -> RunOutcome | None:
        async with place.reading() as bridge:
            return await bridge.run_outcome(workflow_id)

    found = run_work(look(find_place(data_dir, database_url)))
    if found is None:
        output.say(f"no run {workflow_id} was ever started")
        raise typer.Exit(1)
    if as_json:
        output.print_json(found.as_dict())
    else:
        _draw(found)


def runs(
    tag: Annotated[
        str | None, typer.Option(metavar="STATUS", help="Only with this status: RUNNING, ...")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    after: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Only those above this id.", callback=_checked_id),
    ] = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
    as_json: AsJson = False,
) -> None:
    """List runs in the order of their ids."""

    async def look(place: Place) -> int:
        found = 0
        async with place.reading() as bridge:

            async def read(
                last: ModelWorkflowProjection | None, size: int
            ) -> Sequence[ModelWorkflowProjection]:
                above = after if last is None else last.workflow_key.partition(":")[2]
                return await bridge.runs(tag=tag, after=above, limit=size)

            async for rows in pages(read, limit):
                _print_runs([_line(row.model_dump()) for row in rows], as_json=as_json)
                found += len(rows)
        return found

    found = run_work(look(find_place(data_dir, database_url)))
    if not as_json:
        output.say(f"{found:,} {'run' if found == 1 else 'runs'}")


def _line(row: dict[str, Any]) -> dict[str, Any]:
    extras = row["extras"] or {}
    return {
        "workflow_id": row["workflow_key"].partition(":")[2],
        "contract": row["namespace"],
        "contract_version": extras.get("contract_version"),
        "status": row["tag"],
        "detail": extras.get("detail"),
        "started_at": extras.get("started_at"),
        "ended_at": extras.get("ended_at"),
        "steps": row["indices"],
    }


def _print_runs(lines: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        for line in lines:
            output.print_json(line)
    elif lines:
        columns = ["workflow_id", "contract", "status", "steps", "started", "took", "detail"]
        output.print_rows(
            columns,
            [
                [
                    *(line["workflow_id"], line["contract"], line["status"]),
                    _counts(line["steps"] or {}),
                    _moment(line["started_at"]),
                    _took(line["started_at"], line["ended_at"]),
                    line["detail"] or None,
                ]
                for line in lines
            ],
        )
    output.flush()


def _counts(steps: dict[str, int]) -> str:
    said = [f"{count} {what}" for what, count in sorted(steps.items()) if what != "steps"]
    return ", ".join(said) or "-"


def _draw(found: RunOutcome) -> None:
    output.print_object(
        f"run {found.workflow_id}: {found.status}",
        {
            "contract": f"{found.contract} (version {found.contract_version})",
            "started": _moment(found.started_at),
            "took": _took(found.started_at, found.ended_at),
            "epoch": found.epoch,
            "detail": found.detail or None,
        },
    )
    output.print_rows(
        ["step", "after", "status", "attempts", "asked", "took", "came to"],
        [
            [
                step.name,
                ", ".join(step.depends_on) or None,
                step.status,
                step.attempts,
                _moment(step.asked_at),
                _took(step.asked_at, step.ended_at),
                _came_to(step),
            ]
            for step in found.steps
        ],
    )


def _came_to(step: StepOutcome) -> object:
    """Return what there is to say of a step: why it failed, or else what came of it."""
    if step.undo_reason is not None:
        return f"undo: {step.undo_reason}: {step.undo_detail}"
    if step.version is not None:
        return f"version {step.version}"
    if step.result is not None:
        return step.result
    return None if step.reason is None else f"{step.reason}: {step.detail}"


def _moment(text: str | None) -> object:
    return None if text is None else datetime.fromisoformat(text)


def _took(began: str | None, ended: str | None) -> str | None:
    if began is None or ended is None:
        return None
    seconds = (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()
    return f"{seconds:,.3f} s"
