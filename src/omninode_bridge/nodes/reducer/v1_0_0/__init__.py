"""Version 1.0.0 of this node."""
