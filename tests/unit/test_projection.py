"""A projection is something the table can hold, or it is refused."""

from __future__ import annotations

from collections import UserDict
from types import MappingProxyType

import pytest

from omninode_bridge.core.projection import Projection, project_plainly
from tests.unit.actions import COMMITTED_AT


@pytest.mark.parametrize("label", ["", "open", "x" * 512, "ö" * 256])
def test_a_label_has_up_to_512_bytes(label: str) -> None:
    projection = Projection(label, label)
    assert (projection.tag, projection.namespace) == (label, label)
    assert (projection.indices, projection.extras) == (None, None)


@pytest.mark.parametrize(
    ("label", "error"),
    [
        ("x" * 513, ValueError),
        ("ö" * 257, ValueError),
        ("a\0b", ValueError),
        ("\ud800", ValueError),
        (None, TypeError),
        (1, TypeError),
        (b"open", TypeError),
    ],
)
def test_a_label_that_the_index_could_not_hold_is_refused(
    label: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match="projection's tag"):
        Projection(label, "shop")  # type: ignore[arg-type]
    with pytest.raises(error, match="projection's namespace"):
        Projection("open", label)  # type: ignore[arg-type]


@pytest.mark.parametrize("mapping", [None, {}, {"total": 1}, MappingProxyType({}), UserDict()])
def test_indices_and_extras_are_mappings_or_none(mapping: object) -> None:
    projection = Projection("", "shop", mapping, mapping)  # type: ignore[arg-type]
    assert projection.indices is projection.extras is mapping


@pytest.mark.parametrize("mapping", [[], "text", 1, [("total", 1)]])
def test_what_is_no_mapping_is_refused_by_name(mapping: object) -> None:
    with pytest.raises(TypeError, match="indices must be a mapping"):
        Projection("", "shop", mapping)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="extras must be a mapping"):
        Projection("", "shop", None, mapping)  # type: ignore[arg-type]


def test_a_key_without_a_declared_projection_is_listed_by_its_type() -> None:
    plain = project_plainly("order:17:a", {"total": 1}, "Placed", COMMITTED_AT)
    assert plain == Projection(tag="", namespace="order")
