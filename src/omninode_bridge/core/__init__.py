"""The pure core: it decides and never does. Standard library only, no clock, dice or I/O (R1)."""
