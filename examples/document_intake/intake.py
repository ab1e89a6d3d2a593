"""Documents that are validated, hashed, stamped and added to the totals of a namespace.

    python examples/document_intake/intake.py FOLDER [DATA_DIR]

Each file of the folder is a run of the contract beside this program. One of the steps asks somebody
else for a title, who may not answer: the run goes on without.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from blake3 import blake3

from omninode_bridge import (
    Action,
    App,
    Bridge,
    BridgeError,
    EffectCall,
    Moved,
    Projection,
    Rejection,
    Rule,
    Transition,
    TransitionTable,
)

DOCUMENT = TransitionTable(
    "NEW",
    ("NEW", "RECEIVED", "STAMPED", "WITHDRAWN"),
    (
        Rule("Received", ("NEW", "WITHDRAWN"), "RECEIVED"),
        Rule("Stamped", ("RECEIVED",), "STAMPED"),
        Rule("Withdrawn", ("RECEIVED", "STAMPED", "WITHDRAWN"), "WITHDRAWN"),
    ),
)
app = App("document-intake")
app.workflow(Path(__file__).with_name("document-intake.yaml"))


@app.reducer("document")
def document(state: dict[str, Any], action: Action) -> Transition | Rejection:
    """Keep what is known of a document; refuse an empty one."""
    if action.payload.get("bytes") == 0:
        return Rejection("an empty document is none")
    match DOCUMENT.next(state.get("status", DOCUMENT.initial), action.type):
        case Moved(status):
            return Transition(state | action.payload | {"status": status})
        case _:
            return Rejection(f"a document that is {state.get('status', 'NEW')}: not {action.type}")


@app.reducer("library")
def library(state: dict[str, Any], action: Action) -> Transition | Rejection:
    """Keep exact totals of a namespace."""
    documents, size = state.get("documents", 0), state.get("bytes", 0)
    return Transition({"documents": documents + 1, "bytes": size + action.payload["bytes"]})


@app.projection("document")
def view(key: str, state: dict[str, Any], action_type: str, committed_at: Any) -> Projection:  # noqa: ANN401, ARG001 - the signature it has to have
    """List documents by status and namespace."""
    return Projection(tag=state["status"], namespace=state["namespace"])


@app.effect("HashDocument")
async def hash_document(call: EffectCall) -> dict[str, Any]:
    """Read the file, which is what a reducer must not do."""
    content = await asyncio.to_thread(Path(call.payload["path"]).read_bytes)
    return {"hash": blake3(content).hexdigest()}


@app.effect("LookUpTitle")
async def look_up_title(call: EffectCall) -> dict[str, Any]:
    """Ask a catalogue that never answers for what it does not know."""
    if call.payload["name"] == "unknown.txt":
        await asyncio.Event().wait()
    return {"title": call.payload["name"].removesuffix(".txt").title()}


def documents(folder: str) -> list[dict[str, Any]]:
    """Return the inputs of the runs, one for each file of the folder."""
    return [
        {
            "name": file.name,
            "path": str(file.resolve()),
            "bytes": file.stat().st_size,
            "namespace": "examples",
        }
        for file in sorted(Path(folder).iterdir())
        if file.is_file()
    ]


async def main(folder: str, data_dir: str = ".data-intake") -> None:
    """Run the files of a folder, all at once, and tell what became of each."""
    async with Bridge.open(app, data_dir=data_dir) as bridge:
        for line in await asyncio.gather(*(take_in(bridge, each) for each in documents(folder))):
            print(line)
        totals = await bridge.state("library:examples")
        print("examples:", totals and totals.state)


async def take_in(bridge: Bridge, given: dict[str, Any]) -> str:
    """Run one document; tell what became of it."""
    name = given["name"]
    outcome = await bridge.run("document-intake", given, workflow_id=f"intake-{name}")
    enriched = outcome.step("enrich")
    if outcome.status == "COMPLETED" and enriched.status != "DONE":
        return f"{name}: COMPLETED (without a title: {enriched.detail})"
    return f"{name}: {outcome.status}" + (f" ({outcome.detail})" if outcome.detail else "")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or not Path(sys.argv[1]).is_dir():
        print(f"usage: {sys.argv[0]} FOLDER [DATA_DIR]; FOLDER has to be there", file=sys.stderr)
        sys.exit(2)
    try:
        asyncio.run(main(*sys.argv[1:]))
    except BridgeError as error:
        sys.exit(f"{sys.argv[0]}: {error}")
