"""Real faults: processes killed, servers stopped, connections cut, two owners by force."""
