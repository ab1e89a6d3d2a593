"""`python -m omninode_bridge.infrastructure.contracts` writes the page of the state machine."""

import sys

from omninode_bridge.core.machine import WORKFLOW
from omninode_bridge.infrastructure.contracts.machine_page import machine_page

if __name__ == "__main__":
    sys.stdout.write(machine_page(WORKFLOW))
