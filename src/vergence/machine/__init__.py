"""The machine under a run: devices, threads, processes, random numbers."""
