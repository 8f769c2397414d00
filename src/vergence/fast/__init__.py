"""What makes the same numbers sooner: Winograd's convolutions, compiled loops, kept memory."""

from typing import Literal

Compile = Literal["auto", "none", "graph", "full"]
"""How steps are made fast: as written, as one CUDA graph of these kernels, or compiled first."""
