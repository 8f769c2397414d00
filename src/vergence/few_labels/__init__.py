"""Does a trained encoder help where labels are few? Linear probes and fine-tuning, beside what it must beat."""

from vergence.config.labels import Amount, amount
from vergence.few_labels.compare import Question, compare
from vergence.few_labels.fits import Named

__all__ = ["Amount", "Named", "Question", "amount", "compare"]
