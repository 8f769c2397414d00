"""The verdict in a training loop that is not ours: `vergence.Watch`, its hooks and its callback for Lightning."""

from vergence.watching.watch import Watch

__all__ = ["Watch"]
