"""ImageNet and two parts of it, Imagenette and Tiny ImageNet: folders of JPEGs, read as `vergence.data.folder` does."""

import hashlib
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from vergence import register
from vergence.config import Data, Folder, ImageNet, Imagenette, TinyImageNet
from vergence.data import folder
from vergence.data.cache import alone, default_cache_dir
from vergence.data.images import Images
from vergence.data.published import Archive, places, tree
from vergence.data.scan import SUFFIXES, suffix_of
from vergence.data.splits import Split
from vergence.errors import InputError, MachineError
from vergence.files.names import listed, shown


class Counts(NamedTuple):
    """How much a data set holds: classes, training and validation pictures."""

    classes: int
    train: int
    val: int


COUNTS = {
    "imagenette": Counts(10, 9_469, 3_925),
    "tiny-imagenet": Counts(200, 100_000, 10_000),
    "imagenet": Counts(1_000, 1_281_167, 50_000),
}
"""How much each data set holds as it is published, by its kind."""


def _imagenette(inner: str, checksum: str, limit: int) -> Archive:
    url = f"https://s3.amazonaws.com/fast-ai-imageclas/{inner}.tgz"
    return Archive(f"{inner}.tgz", inner, url, checksum, limit, members=20_000)


IMAGENETTE = {
    "160px": _imagenette("imagenette2-160", "e793b78cc4c9e9a4ccc0c1155377a412", 200 << 20),
    "320px": _imagenette("imagenette2-320", "3df6f0d01a2c9592104656642f5e78a3", 500 << 20),
    "full": _imagenette("imagenette2", "fe2fc210e6bb7c5664d602c3cd71e612", 2 << 30),
}
TINY = Archive(
    name="tiny-imagenet-200.zip",
    inner="tiny-imagenet-200",
    url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",  # its only address: the checksum is the protection
    checksum="90528d7ca1a48142e341f4ef8d21d0de",
    limit=248_100_043,
    members=130_000,
)
_TARS = ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")


@register.data(Imagenette)
def load_imagenette(
    config: Imagenette, split: Split, *, data_dir: Path | None = None, cache_dir: Path | None = None
) -> Images:
    """A split; "pretrain" and "train" are the same pictures, and "test" is the published validation pictures.

    Args:
        config: the side at which pictures are kept, and which of the three archives they come from.
        split: which pictures.
        data_dir: where the unpacked folder or the archive may lie; the archive is downloaded if neither is there.
        cache_dir: where decoded pictures, the archive and what it unpacks to are kept.

    Raises:
        InputError: there are not as many pictures as published.
    """
    cache_dir = cache_dir or default_cache_dir()
    root = tree(IMAGENETTE[config.version], places(config, data_dir), cache_dir)
    if wrong := _difference(config, root):
        raise InputError(f"{wrong}; get it again, or give this folder itself with --data")
    return _load(root, config.size, split, cache_dir)


@register.data(TinyImageNet)
def load_tiny_imagenet(
    config: TinyImageNet, split: Split, *, data_dir: Path | None = None, cache_dir: Path | None = None
) -> Images:
    """A split; "pretrain" and "train" are the same pictures, and "test" is the published validation pictures.

    The published test pictures have no labels and are not used. Arguments and errors are those of `load_imagenette`.
    """
    cache_dir = cache_dir or default_cache_dir()
    published = tree(TINY, places(config, data_dir), cache_dir)
    _expect_parts(published)
    val = published / "val"
    validation = _by_class(val) if (val / "images").is_dir() else {"val": val}
    root = _linked(config.kind, {"train": published / "train", **validation}, cache_dir)
    if wrong := _difference(config, root):
        raise InputError(f"{wrong} in {shown(published)}; get it again")
    return _load(root, config.size, split, cache_dir)


@register.data(ImageNet)
def load_imagenet(
    config: ImageNet, split: Split, *, data_dir: Path | None = None, cache_dir: Path | None = None
) -> Images:
    """A split; "pretrain" and "train" are the same pictures, and "test" is the published validation pictures.

    A warning says how the counts differ from the published ones.

    Args:
        config: the side at which pictures are kept.
        split: which pictures.
        data_dir: where train/ and val/ lie, each with a folder for every class, also inside imagenet/.
        cache_dir: where decoded pictures are kept.

    Raises:
        InputError: no such folders are there, or val/ has no class folders.
    """
    cache_dir = cache_dir or default_cache_dir()
    root = _imagenet_root(places(config, data_dir))
    if wrong := _difference(config, root):
        warnings.warn(f"{wrong}; get the rest if that is not meant", stacklevel=3)
    if (root / "test").exists():  # without labels: not for probes
        root = _linked(config.kind, {part: root / part for part in ("train", "val")}, cache_dir)
    return _load(root, config.size, split, cache_dir)


def _imagenet_root(folders: tuple[Path, ...]) -> Path:
    expected = "train/ and val/, each with a folder for every class such as n01440764/"
    if not folders:
        raise InputError(f"imagenet is not downloaded; give the folder that holds {expected}, with --data-dir")
    for root in folders:
        if (root / "train").is_dir() and (val := root / "val").is_dir():
            if not any(entry.is_dir() for entry in val.iterdir()):
                sort = "put each picture into the folder of its class, such as n01440764/, as the devkit's labels say"
                raise InputError(f"{shown(val)}: has no class folders; {sort}")
            return root
        if tars := [name for name in _TARS if (root / name).is_file()]:
            unpack = "from torchvision.datasets import ImageNet as I; [I('.', part) for part in ('train', 'val')]"
            how = f'unpack both there, with ILSVRC2012_devkit_t12.tar.gz beside them: python -c "{unpack}"'
            raise InputError(f"{shown(root)}: {listed(tars)} not unpacked; {how}")
    raise InputError(f"{shown(folders[0])}: no ImageNet there; expected {expected}")


def _expect_parts(root: Path) -> None:
    if missing := [f"{part}/" for part in ("train", "val") if not (root / part).is_dir()]:
        raise InputError(f"{shown(root)}: {listed(missing)} missing; get it again")


def _difference(config: Data, root: Path) -> str:
    """How what lies in train/ and val/ differs from what is published; empty where it does not."""
    _expect_parts(root)
    expected = COUNTS[config.kind]
    classes = sum(entry.is_dir() for entry in os.scandir(root / "train"))
    found = Counts(classes, *(_pictures(root / part) for part in ("train", "val")))
    if found == expected:
        return ""
    told = (f"{n.train:,} + {n.val:,} pictures of {n.classes:,} classes" for n in (found, expected))
    return f"{shown(root)}: {' instead of '.join(told)}"


def _pictures(part: Path) -> int:
    names = (name for _, _, files in os.walk(part, followlinks=True) for name in files)
    return sum(suffix_of(name) in SUFFIXES and not name.startswith(".") for name in names)


def _load(root: Path, size: int, split: Split, cache_dir: Path) -> Images:
    images = folder.load(Folder(root=str(root.resolve()), size=size), split, cache_dir=cache_dir)
    return replace(images, classes=_in_words(images.classes), facts={**images.facts, "test": "published"})


def _in_words(synsets: Iterable[str]) -> tuple[str, ...]:
    """The first name that WordNet has for each class; two classes of one name ("crane") keep their number beside it."""
    from timm.data import ImageNetInfo

    describe = ImageNetInfo().label_name_to_description
    words = {}
    for synset in synsets:
        try:
            words[synset] = describe(synset).split(",")[0]
        except KeyError:  # a folder that is none of WordNet's
            words[synset] = synset
    times = Counter(words.values())
    return tuple(word if times[word] == 1 else f"{word} ({synset})" for synset, word in words.items())


def _by_class(val: Path) -> dict[str, Path]:
    """Tiny ImageNet's validation pictures, which lie in one folder, by the path they have when sorted into classes."""
    listing = val / "val_annotations.txt"
    pictures = {}
    for number, line in enumerate(listing.read_text("utf-8", "replace").splitlines(), start=1):
        name, _, rest = line.partition("\t")
        synset = rest.partition("\t")[0]
        if not (name.endswith(".JPEG") and synset.isalnum() and "/" not in name):
            raise InputError(f"{shown(listing)}: line {number}: expected a picture and its class, such as n01443537")
        pictures[f"val/{synset}/{name}"] = val / "images" / name
    return pictures


def _linked(kind: str, links: Mapping[str, Path], cache_dir: Path) -> Path:
    """A folder of links in the cache: what is published otherwise, arranged by split and class."""
    targets = {name: str(path.resolve()) for name, path in sorted(links.items())}
    digest = hashlib.sha256(repr(targets).encode(errors="surrogateescape")).hexdigest()[:16]
    entry = cache_dir / f"{kind}-links-{digest}"
    whole, partial = entry / "links", entry / "partial"
    with alone(entry):
        if not whole.is_dir():
            shutil.rmtree(partial, ignore_errors=True)  # an earlier process may have been killed
            try:
                for name, target in targets.items():
                    (partial / name).parent.mkdir(parents=True, exist_ok=True)
                    (partial / name).symlink_to(target)
                partial.rename(whole)
            except OSError as error:
                advice = "free some space there, or set VERGENCE_CACHE to a folder on a local disk"
                raise MachineError(f"cannot write {shown(partial)}: {error.strerror or error}: {advice}") from error
    return whole
