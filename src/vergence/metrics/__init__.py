"""What is measured: on one step's outputs, on a run so far, on a frozen encoder."""

from vergence.metrics.collapse import effective_rank, feature_std, positive_negative_cosine, spectrum

__all__ = ["effective_rank", "feature_std", "positive_negative_cosine", "spectrum"]
