"""The command `vergence`: its options, what was meant, its exit codes."""
