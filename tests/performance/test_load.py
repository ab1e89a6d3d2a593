"""Load characterised, not timed: what is asserted is what a noisy machine cannot touch."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import pytest

from omninode_bridge import Bridge
from omninode_bridge.bench import Load, Mode, app

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("mode", get_args(Mode))
async def test_a_load_neither_conflicts_nor_gives_up(mode: Mode, server_folder: Path) -> None:
    load = Load(mode, clients=200, seconds=1)
    async with Bridge.open(app, data_dir=server_folder / "data") as bridge:
        bridge.observe(load.observe)
        figures = await load.run(bridge, None)
        assert (figures.conflicts, figures.gave_up, figures.retries) == (0, 0, 0)
        assert figures.actions_per_s > 0
        assert 0 < figures.p50_ms <= figures.p95_ms <= figures.p99_ms
        assert 0 < figures.projection_lag_p50_ms <= figures.projection_lag_p99_ms
        found = await bridge.verify()
    assert found.mismatches == []
    assert found.actions >= figures.actions_per_s
