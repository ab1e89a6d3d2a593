"""Stamps the metadata of files and keeps exact totals a namespace: an application of the bridge.

It uses the bridge's public names only, as any user's application does.
"""

from omninode_bridge.stamping.checker import Comparison, check
from omninode_bridge.stamping.files import app
from omninode_bridge.stamping.keys import check_namespace
from omninode_bridge.stamping.stamper import Summary, stamp
from omninode_bridge.stamping.survey import Problem, Progress

__all__ = [
    "Comparison",
    "Problem",
    "Progress",
    "Summary",
    "app",
    "check",
    "check_namespace",
    "stamp",
]
