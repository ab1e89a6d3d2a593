"""The queryable copy of a state: what a projection is, and the one we use when none is declared.

Rule 1: a projection is a pure function of key, state, action type and commit time. It runs once,
        in the worker; its result travels in the log entry, so materializers never fold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from omninode_bridge.core.message import key_type_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    Project = Callable[[str, dict[str, Any], str, datetime], "Projection"]

LABEL_BYTES_MAX: Final = 512
"""Tags and namespaces are indexed: PostgreSQL bounds an index row, so we bound them (R13)."""


@dataclass(frozen=True, slots=True)
class Projection:
    """`tag` and `namespace` can be listed by; `indices` and `extras` are JSON objects or None."""

    tag: str
    namespace: str
    indices: Mapping[str, Any] | None = None
    extras: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Refuse what the table could not hold.

        Raises:
            TypeError, ValueError: naming the field.
        """
        check_label("tag", self.tag)
        check_label("namespace", self.namespace)
        for what, mapping in (("indices", self.indices), ("extras", self.extras)):
            # The first two cover nearly all; asking an abstract class costs ten times as much.
            if not (mapping is None or type(mapping) is dict or isinstance(mapping, Mapping)):
                message = f"a projection's {what} must be a mapping or None"
                raise TypeError(message)


def check_label(what: str, label: object) -> str:
    """Return `label` when it can be indexed: text of at most 512 bytes, no NUL.

    Raises:
        TypeError, ValueError: with `what` as its field.
    """
    if not isinstance(label, str):
        message = f"a projection's {what} must be text, not {type(label).__name__}"
        raise TypeError(message)
    try:
        size = len(label.encode())
    except UnicodeEncodeError as error:
        message = f"a projection's {what} holds a lone surrogate: not UTF-8"
        raise ValueError(message) from error
    if size > LABEL_BYTES_MAX or "\0" in label:
        message = f"a projection's {what} is at most {LABEL_BYTES_MAX} bytes without NUL"
        raise ValueError(message)
    return label


def project_plainly(
    workflow_key: str,
    state: dict[str, Any],  # noqa: ARG001 - the signature every projection has
    action_type: str,  # noqa: ARG001
    committed_at: datetime,  # noqa: ARG001
) -> Projection:
    """Project a key whose type declares no projection: no tag, its type as the namespace."""
    return Projection(tag="", namespace=key_type_of(workflow_key))
