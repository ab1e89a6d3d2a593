"""Carries the history of one partition from our log to a bus outside: at least once, in order.

Rule 1: our log is the source. What the bus has confirmed is sent again after a crash, with the same
        place in the log said of it; whoever reads it there drops repeats by that.
Rule 2: how far the bus has it is stored half a second later at most, and not with each page: a
        repeat costs less than a write beside each commit.
Rule 3: what a commit has just written is sent from memory, byte for byte as it stands in the log.
        Memory is never needed: wherever it does not join what was sent, the log is read.

What if ...
- the process dies: what was not sent, or not stored as sent, is in the log behind the position.
- a commit's reply is lost: that commit is not handed over, though it may be durable. What is handed
  over next does not join then, and the log is read from where we are until it does.
- somebody else commits to the partition: as above. If nothing is handed over after it, a look into
  the log finds it, a second later at most.
- a page fails: whether the bus has it is unknown. We begin again at the stored position, from the
  log, until that has come to what is still in memory.
- more is handed over than the bus takes: memory is let go whole, and filled again when a read has
  come to the end of the log. A bus that is away costs little memory and no work.
- the log is read while a commit ends: that commit may be in what was read, or handed over, or both,
  or neither. The third is dropped by its offset. In the last case the topic is known to have grown
  since the read began, so that read is not taken for the end of the log.
- an entry's offset is not told by the commit (`fsm-state-transitioned`): that topic is read.
- two relays of one partition run, an owner's and the one before it: they send some entries twice
  and lose none. A position never goes back, and each sends on from one that was stored.

To read in this order: `relay.py` (the loop), `handed_over.py` (what is in memory).
"""

from __future__ import annotations

from omninode_bridge.services.relay.relay import Relay

__all__ = ["Relay"]
