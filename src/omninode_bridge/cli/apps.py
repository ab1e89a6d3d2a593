"""Everything that can be folded again here: our own applications, stored contracts, the user's."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from omninode_bridge import App, ConfigurationError, bench, ingest, stamping

if TYPE_CHECKING:
    from omninode_bridge.cli.running import Place


async def every_app(place: Place, named: str | None) -> App:
    """Return one App of all that is known: ours, the database's contracts, and `named`'s.

    `named` is `module:object`; the module is looked for in the current folder too.

    Raises:
        ConfigurationError: `named` leads nowhere, or declares what another declares.
    """
    everything = App("omninode-bridge")
    everything.include(stamping.app)
    everything.include(bench.app)
    async with place.reading(ingest.contracts) as bridge:
        everything.include(await ingest.stored_app(bridge))
    if named is not None:
        everything.include(load(named))
    return everything


def load(named: str) -> App:
    """Return the App `named` as `module:object`; the module is looked for in this folder too.

    Raises:
        ConfigurationError: it leads nowhere.
    """
    module_name, colon, attribute = named.partition(":")
    if not (module_name and colon and attribute):
        message = f"--app takes module:object, such as shop.workflows:app, not {named!r}"
        raise ConfigurationError(message)
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        message = f"--app {named}: {module_name} cannot be imported: {error}"
        raise ConfigurationError(message) from error
    found = getattr(module, attribute, None)
    if isinstance(found, App):
        return found
    message = f"--app {named}: {attribute} of {module_name} is {type(found).__name__}, not an App"
    raise ConfigurationError(message)
