"""The orchestrator, decided purely: what a run asks for next, and what it undoes.

Reading order: `contract.py` (what is to be done), `states.py` (how far one can be), `run.py` (what
an action on a run's key leads to), `turn.py` (how), `outcome.py` (what is told of it).
"""

from omninode_bridge.core.orchestration.asking import NESTING_MAX
from omninode_bridge.core.orchestration.checks import check_contract
from omninode_bridge.core.orchestration.contract import (
    RunContract,
    RunStep,
    parse_contract,
)
from omninode_bridge.core.orchestration.document import ContractFault
from omninode_bridge.core.orchestration.outcome import RunOutcome, StepOutcome, run_outcome
from omninode_bridge.core.orchestration.run import RUN, run_key
from omninode_bridge.core.orchestration.states import (
    RUN_CANCELLED,
    RUN_STARTED,
    RUN_TAKEN_OVER,
    TERMINAL,
)

__all__ = [
    "NESTING_MAX",
    "RUN",
    "RUN_CANCELLED",
    "RUN_STARTED",
    "RUN_TAKEN_OVER",
    "TERMINAL",
    "ContractFault",
    "RunContract",
    "RunOutcome",
    "RunStep",
    "StepOutcome",
    "check_contract",
    "parse_contract",
    "run_key",
    "run_outcome",
]
