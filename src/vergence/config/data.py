"""The members of the data slot: which pictures a run is trained and scored on."""

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from vergence.config.marks import Added, AtLeast, Between, Place, WordOrNumbers
from vergence.config.schema import Slot, configuration, fields, marked

_SIZE = "side in pixels at which views are cut; smaller pictures are enlarged to it"
_KEPT = "side in pixels of the views that pictures are kept for"
_BANDS = WordOrNumbers(("auto",), counts=(1, 3), whole=True)
_RANGE = WordOrNumbers(("auto", "full"), counts=(2,), rising=True)
_SCORED_ON = "what probes are scored on; held-out: a tenth of the training pictures, kept out of training: for tuning"


@configuration
class Data(Slot):
    """The base of every data set's settings; what reads it is the function that `register.data` puts beside them.

    Attributes:
        published: how many pictures it has to train on, which presets scale with; None where only reading tells.
    """

    published: ClassVar[int | None] = None
    if TYPE_CHECKING:  # every data set has them
        kind: ClassVar[str]
        size: int


@configuration
class Digits(Data):
    """scikit-learn's 1,797 handwritten digits, 8 x 8: ships with the library, no download."""

    kind: ClassVar[str] = "digits"
    published: ClassVar[int | None] = 1_797
    size: Annotated[int, AtLeast(8), _SIZE] = 32


@configuration
class CIFAR10(Data):
    """50,000 + 10,000 photos of 10 classes, 32 x 32."""

    kind: ClassVar[str] = "cifar10"
    published: ClassVar[int | None] = 50_000
    size: Annotated[int, AtLeast(8), _SIZE] = 32
    scored_on: Annotated[Literal["test", "held-out"], Added(), _SCORED_ON] = "test"


@configuration
class CIFAR100(Data):
    """50,000 + 10,000 photos of 100 fine or 20 coarse classes, 32 x 32."""

    kind: ClassVar[str] = "cifar100"
    published: ClassVar[int | None] = 50_000
    size: Annotated[int, AtLeast(8), _SIZE] = 32
    labels: Annotated[Literal["fine", "coarse"], "the 100 classes, or 20 that hold five of them each"] = "fine"
    scored_on: Annotated[Literal["test", "held-out"], _SCORED_ON] = "test"


@configuration
class STL10(Data):
    """100,000 unlabelled, 5,000 + 8,000 labelled photos of 10 classes, 96 x 96."""

    kind: ClassVar[str] = "stl10"
    published: ClassVar[int | None] = 105_000
    size: Annotated[int, AtLeast(8), _SIZE] = 96
    pretrain: Annotated[Literal["train+unlabeled", "unlabeled", "train"], "what views are cut from"] = "train+unlabeled"
    fold: Annotated[int | None, Between(0, 9), "one of the ten published folds for the probes; none: all 5,000"] = None


@configuration
class Imagenette(Data):
    """9,469 + 3,925 photos of 10 classes of ImageNet that are easily told apart."""

    kind: ClassVar[str] = "imagenette"
    published: ClassVar[int | None] = 9_469
    size: Annotated[int, AtLeast(8), _KEPT] = 128
    version: Annotated[Literal["160px", "320px", "full"], "shorter side of the files that are downloaded"] = "160px"


@configuration
class TinyImageNet(Data):
    """100,000 + 10,000 photos of 200 classes of ImageNet, 64 x 64."""

    kind: ClassVar[str] = "tiny-imagenet"
    published: ClassVar[int | None] = 100_000
    size: Annotated[int, AtLeast(8), _KEPT] = 64


@configuration
class ImageNet(Data):
    """1,281,167 + 50,000 photos of 1,000 classes (ILSVRC 2012), from a folder with train/ and val/; no download."""

    kind: ClassVar[str] = "imagenet"
    published: ClassVar[int | None] = 1_281_167
    size: Annotated[int, AtLeast(8), _KEPT] = 224


@configuration
class Folder(Data):
    """Pictures of your own: a folder, a list or table, shards, arrays; labelled by subfolder, by column or not at all.

    A file that does not state `crops` is of before there was a choice, and means "square".
    """

    kind: ClassVar[str] = "folder"
    root: Annotated[str, Place(), "the folder, or the file that lists or holds the pictures"]
    more: Annotated[tuple[str, ...], Place(), Added(), "other places, whose pictures are added"] = ()
    size: Annotated[int, AtLeast(8), _KEPT] = 96
    crops: Annotated[
        Literal["whole", "square"],
        Added(before="square"),
        "what crops are drawn in: the whole picture; or its middle square, resized to size, as before",
    ] = "whole"
    keep: Annotated[
        int | None, AtLeast(8), Added(), "largest shorter side at which whole pictures are kept; none: twice size"
    ] = None
    labels: Annotated[str, Added(), "auto | folders | none, or the name of a column: where labels come from"] = "auto"
    outside: Annotated[bool, Place(), Added(), "whether paths of a list may lead out of its folder"] = False
    channels: Annotated[
        str, _BANDS, Added(), "auto, or bands used as red, green and blue, counted from 1: 4,3,2; one is gray"
    ] = "auto"
    range: Annotated[
        str, _RANGE, Added(), "auto | full | LOW,HIGH: values of more than 8 bits that become 0 and 255"
    ] = "auto"
    pages: Annotated[
        Literal["first", "all"], Added(), "pages used of a TIFF or another file that has several; all: each a picture"
    ] = "first"
    most_pixels: Annotated[
        int, AtLeast(64), Added(), "most pixels decoded of a picture; one that has more cannot be used"
    ] = 1 << 26
    bad_images: Annotated[Literal["fail", "skip"], "what a picture that cannot be read does"] = "fail"

    @property
    def places(self) -> tuple[str, ...]:
        """Where pictures lie, as it is written."""
        return (self.root, *self.more)

    @property
    def kept(self) -> int:
        """The largest shorter side in pixels at which whole pictures are kept."""
        return self.keep or 2 * self.size

    @property
    def bands(self) -> tuple[int, ...]:
        """The bands that are used, counted from 1; none where the rules of each mode decide."""
        return tuple(map(int, _BANDS.numbers(self.channels)))

    @property
    def span(self) -> tuple[float, float] | None:
        """The values of more than 8 bits that become 0 and 255; None where nobody has said."""
        low, high = _RANGE.numbers(self.range) or (None, None)
        return None if low is None or high is None else (low, high)


def data_name(data: Data) -> str:
    """Return what pictures are called in the name of a file: their kind, or the last part of a folder's path."""
    if not isinstance(data, Folder):
        return data.kind
    name = "".join(c if c.isalnum() or c in "_." else "-" for c in Path(data.root).name)
    return name[:24].strip("-.") or data.kind


def instead(asked: Data, before: Data) -> Data:
    """Return the pictures asked for, in all that was not asked for as those before.

    Of the same kind, that is everything but their place and what is not as usual; of another kind, the size. The size
    is always that of those before.
    """
    if type(asked) is not type(before):
        return replace(asked, size=before.size)
    cls = type(before)
    usual = {field.name: field.default for field in dataclasses.fields(cls)}
    meant = {name: value for name in fields(cls) if (value := getattr(asked, name)) != usual[name]}
    places = {name: getattr(asked, name) for name in fields(cls) if marked(cls, name, Place)}
    return replace(before, **{**meant, **places, "size": before.size})
