"""Files that survive, and what can be read of a run without torch."""
