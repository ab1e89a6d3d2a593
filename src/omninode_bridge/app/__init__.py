"""What the user declares (`App`) and what carries it out (`Bridge`): the only place that knows all.

Here stores meet loops, loops meet ports, and the environment meets all of them; start and stop too.
A bridge is a ladder, a module for each rung: `looking`, `asking`, `running`, `doors`, and on top
`bridge`, which opens and closes it.
"""

from omninode_bridge.app.bridge import Bridge
from omninode_bridge.app.connecting import default_data_dir
from omninode_bridge.app.declaring import App

__all__ = ["App", "Bridge", "default_data_dir"]
