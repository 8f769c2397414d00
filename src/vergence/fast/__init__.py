"""What makes the same numbers sooner: Winograd's convolutions, compiled loops, kept memory."""
