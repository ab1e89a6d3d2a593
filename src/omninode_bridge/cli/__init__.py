"""The program `omninode-bridge`.

Rule 1: results on standard output (with `--json`: one object for a summary, one object a line for a
        listing), progress and words on standard error.
Rule 2: exit status 0 done, 1 the work failed or differs, 2 wrong use, 130 interrupted.
"""

from omninode_bridge.cli.program import main

__all__ = ["main"]
