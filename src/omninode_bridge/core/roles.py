"""What a process does of what is to be done: all of it, or some of the roles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable

Role = Literal["reducer", "store-effect", "materializer", "orchestrator", "effects", "relay"]
"""`reducer` folds, and owns partitions. `store-effect` commits what others fold and send it by the
bus. `materializer` projects, `orchestrator` dispatches what follows and fires timers, `effects`
carries out intents, `relay` carries history to the bus: these four follow what was committed."""

Following = Literal["materializer", "orchestrator", "effects", "relay"]

ROLES: Final[tuple[Role, ...]] = get_args(Role)
FOLLOWING: Final[tuple[Following, ...]] = get_args(Following)
NEED_BUS: Final[frozenset[Role]] = frozenset({"relay", "store-effect"})
ALL: Final[frozenset[Role]] = frozenset(ROLES)


def read_roles(names: Iterable[str]) -> frozenset[Role]:
    """Return the roles that are named.

    Raises:
        ValueError: there is no such role, or none is named.
    """
    named = set(names)
    unknown = sorted(named.difference(ROLES))
    if unknown:
        message = f"there is no role {', '.join(unknown)}; the roles are {', '.join(ROLES)}"
        raise ValueError(message)
    if not named:
        message = f"name at least one role of {', '.join(ROLES)}"
        raise ValueError(message)
    return frozenset(role for role in ROLES if role in named)
