"""The doors of the OmniNode architecture: thin, without a base class or a container.

Rule 1: a door gets what it needs by its constructor; only `app/doors.py` opens it.
Rule 2: no node imports another. They meet in messages: `models.py`, and the topics of the core.
Rule 3: what is decided is decided behind a door, never in it.
"""
