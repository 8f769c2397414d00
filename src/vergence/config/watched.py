"""A training loop that is not ours: what is known of it, where a page has the `Run` of a run."""

import hashlib
from typing import Annotated, ClassVar, NamedTuple

from vergence.config.marks import AtLeast, Between
from vergence.config.schema import canonical, configuration


class _Part(NamedTuple):
    """What a page calls the method of a loop, or its pictures."""

    kind: str
    size: int | None = None


@configuration
class Watched:
    """A loop that `vergence.Watch` watches. It has the attributes of a `Run` that a page asks for."""

    kind: ClassVar[str] = "watched"
    epochs: ClassVar[int] = 0
    """Not known beforehand: the log says how many were trained."""
    subset: ClassVar[int | None] = None
    name: Annotated[str, "what the loop is called"]
    seed: Annotated[int, Between(0, 2**32 - 1), "of the loop, as its owner says"] = 0
    batch_size: Annotated[int, AtLeast(2), "pictures in a step, of which two views each were watched"]
    dimensions: Annotated[int, AtLeast(1), "of its projections"]

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits: loops of one name and seed have the same."""
        return hashlib.sha256(canonical(self).encode()).hexdigest()[:12]

    @property
    def method(self) -> _Part:
        """What stands where a run has its method."""
        return _Part(self.name)

    @property
    def data(self) -> _Part:
        """What stands where a run has its pictures."""
        return _Part("pictures of a watched loop")
