"""A trained encoder as a file for other programs: written, read back, compared, and described."""
