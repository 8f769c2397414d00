"""The commands' own options: a class for each command, a field for each option; `command.arguments` reads them.

A field's annotation holds bounds and help, its default is the option's; an underscore at its end, which keeps it from
being a word of Python, is left out of the option's name. The commands named in `SETTINGS` take the
options of a run too (`command.options`). Nothing here imports torch.
"""

from pathlib import Path
from typing import Annotated, Literal

from vergence.bench.order import PARTS, Amounts, Part
from vergence.config.labels import IsAmount
from vergence.config.marks import AtLeast, Between, Metavar
from vergence.config.run import Precision
from vergence.config.schema import configuration
from vergence.config.views import Positive
from vergence.engine.periods import Periods
from vergence.engine.probing import Probing
from vergence.exports.suffixes import Format
from vergence.fast import Compile
from vergence.grid.cluster import Engine


class Positional:
    """Marks a word that is told by its place, not by an option's name."""


class Repeated:
    """Marks an option that may be given several times: each adds a value."""


_Count = Annotated[int, AtLeast(1)]
_Pictures = Annotated[
    tuple[str, ...],
    Repeated(),
    "digits, cifar10, cifar100, stl10, imagenette, tiny-imagenet, imagenet, or pictures of your own: a folder, a list, "
    "table, tar or array; repeated, it adds [digits]",
]
_Folder = Annotated[Path | None, "where the data set's files are [$VERGENCE_DATA_DIR, else downloaded]"]
_Device = Annotated[str, "auto, cpu, cuda or cuda:N"]
_Threads = Annotated[int | None, Between(1, 1024), "CPU threads [one a core]"]
_Compile = Annotated[Compile, "how a step is made fast"]
_Model = Annotated[
    str,
    Positional(),
    "a run's folder, timm:NAME.TAG, torchvision:NAME, a file of weights, or what vergence export wrote",
]
_PicturesOfRun = Annotated[
    tuple[str, ...], Positional(), Metavar("PICTURES"), "as --data of vergence train takes them [those of the run]"
]
_NoViews = Annotated[bool, "show no pictures on the page, to publish it"]


@configuration
class Described:
    """What may be said of a model whose file does not say it."""

    encoder: Annotated[str | None, Metavar("NAME"), "its architecture, as in vergence train [what its file says]"] = (
        None
    )
    size: Annotated[int | None, AtLeast(8), "side in pixels of its pictures [as it was trained, else 224]"] = None
    mean: Annotated[
        tuple[float, float, float] | None, Metavar("R,G,B"), "normalization [as it was trained, else ImageNet's]"
    ] = None
    std: Annotated[tuple[Positive, Positive, Positive] | None, Metavar("R,G,B"), "likewise"] = None


@configuration
class Train:
    """The options of `vergence train`."""

    method: Annotated[
        str | None,
        Positional(),
        "simclr, moco, byol, byol-prime, raft, contrastive, supervised, or a name of the paper, such as RAFT-LP",
    ] = None
    preset: Annotated[
        str | None, "default; vit for a transformer; blog, raft or raft-code: everything as a document did it"
    ] = None
    config: Annotated[Path | None, Metavar("RUN.JSON"), "run again what a run was; options change it"] = None
    out: Annotated[Path | None, "the run's folder [runs/METHOD-DATA-KEY]"] = None
    resume: Annotated[bool, "go on from the newest checkpoint"] = False
    periods: Periods = Periods()
    track: Annotated[tuple[str, ...], Metavar("NAMES"), "tensorboard, wandb, mlflow, or trackers of plugins"] = ()
    compile: _Compile = "auto"
    processes: Annotated[_Count, "processes of this machine that train it together"] = 1
    data: _Pictures = ()
    data_dir: _Folder = None
    device: _Device = "auto"
    threads: _Threads = None


@configuration
class Evaluate:
    """The options of `vergence evaluate`."""

    run: Annotated[Path, Positional(), "a run's folder"]
    data: Annotated[
        tuple[str, ...], Repeated(), "labelled pictures to score on, as in vergence train [those of the run]"
    ] = ()
    random: Annotated[bool, "the same encoder with its first weights: the baseline"] = False
    probing: Probing = Probing()
    data_dir: _Folder = None
    device: _Device = "auto"
    threads: _Threads = None


@configuration
class Data:
    """The options of `vergence data`."""

    paths: Annotated[
        tuple[str, ...],
        Positional(),
        Metavar("PATH"),
        "pictures of your own, as --data of vergence train takes them; or digits, cifar10, ...",
    ]
    out: Annotated[Path | None, Metavar("FILE.html"), "write a page there too, with the pictures in question"] = None
    data_dir: _Folder = None


@configuration
class Views:
    """The options of `vergence views`."""

    out: Annotated[Path, "the picture to write"] = Path("views.png")
    count: Annotated[int, Between(1, 1000), "pictures shown"] = 8
    data: _Pictures = ()
    data_dir: _Folder = None


@configuration
class Elsewhere:
    """Where the jobs of a study are done, and which of them."""

    on: Annotated[Engine, "what does the runs: this machine, runners on SLURM, tasks of Ray"] = "local"
    cluster: Annotated[Path | None, Metavar("FILE.toml"), "what to ask of SLURM or Ray for them"] = None
    print_commands: Annotated[bool, "print a command for each run that is not done, and do nothing"] = False
    job: Annotated[str | None, Metavar("NAME"), "do only this run, as those commands name it, and make no page"] = None
    runner: Annotated[bool, "do what no other runner does, and make no page"] = False


@configuration
class Reproduce:
    """The options of `vergence reproduce`."""

    experiment: Annotated[
        str, Positional(), "blog, raft (the paper), theorem (its mathematics, checked), family, or FILE.py"
    ]
    scale: Annotated[str, "smoke (minutes, 2 cores), overnight, short (one GPU), full"] = "smoke"
    out: Annotated[Path | None, "folder of the page and its runs [runs/EXPERIMENT-SCALE]"] = None
    jobs: Annotated[_Count | None, "runs at a time [cores / threads; 1 on a GPU]"] = None
    seeds: Annotated[_Count | None, "runs of each row [as the scale says]"] = None
    epochs: Annotated[_Count | None, "of every run that is trained [as the scale says]"] = None
    subset: Annotated[_Count | None, "train on so many of the pictures [as the scale says]"] = None
    rows: Annotated[str | None, "only these rows, in quotes and separated by semicolons; the page has all"] = None
    data: Annotated[tuple[str, ...], Repeated(), "other pictures than the scale's, as in vergence train"] = ()
    no_views: _NoViews = False
    elsewhere: Elsewhere = Elsewhere()
    data_dir: _Folder = None
    device: _Device = "auto"
    threads: Annotated[int, Between(1, 1024), "CPU threads of each run"] = 1


@configuration
class Sweep:
    """The options of `vergence sweep`."""

    methods: Annotated[
        str, Positional(), Metavar("METHOD"), "as in vergence train, or several: simclr,byol; so is any option of a run"
    ]
    preset: Annotated[str, "as in vergence train"] = "default"
    seeds: Annotated[_Count, "runs of each row"] = 1
    out: Annotated[Path | None, "folder of the page and its runs [runs/sweep-METHOD-DATA-KEY]"] = None
    jobs: Annotated[_Count | None, "runs at a time [cores / threads; 1 on a GPU]"] = None
    periods: Periods = Periods()
    no_views: _NoViews = False
    elsewhere: Elsewhere = Elsewhere()
    data: _Pictures = ()
    data_dir: _Folder = None
    device: _Device = "auto"
    threads: Annotated[int, Between(1, 1024), "CPU threads of each run"] = 1


@configuration
class Report:
    """The options of `vergence report`."""

    runs: Annotated[tuple[Path, ...], Positional(), Metavar("RUN"), "folders of runs"] = ()
    from_: Annotated[Path | None, Metavar("FILE"), "make a study's page again, from the runs.tar.gz beside it"] = None
    study: Annotated[str | None, Metavar("FILE.py"), "the file of that study, where it is a user's own"] = None
    out: Annotated[Path, "the page to write"] = Path("report.html")
    no_views: _NoViews = False
    data_dir: _Folder = None


@configuration
class Export:
    """The options of `vergence export`."""

    model: _Model
    out: Annotated[Path, "the file to write, x.json and x.md beside it; with --format hf, the folder"]
    format: Annotated[
        Format | None,
        Metavar("FORMAT"),
        "safetensors, onnx, torchscript, torch-export, or hf: a folder that timm loads [as the suffix of --out says]",
    ] = None
    described: Described = Described()
    data_dir: _Folder = None


@configuration
class Bench:
    """The options of `vergence bench`."""

    method: Annotated[str, Positional(), "as in vergence train"] = "byol"
    what: Annotated[tuple[Part, ...], f"which of {','.join(PARTS)}"] = PARTS[:-1]
    at_once: Annotated[
        tuple[Annotated[int, Between(1, 64)], ...],
        Metavar("COUNTS"),
        "measure so many runs at the same time too, such as 1,2,4",
    ] = ()
    amounts: Amounts = Amounts()
    data: Annotated[str, "digits, cifar10, stl10 or a folder; noise of its shape if not there"] = "cifar10"
    out: Annotated[Path | None, Metavar("FILE.JSON"), "write every number there"] = None
    compile: _Compile = "auto"
    data_dir: _Folder = None
    device: _Device = "auto"
    threads: _Threads = None


@configuration
class Demo:
    """The options of `vergence demo`."""

    out: Annotated[Path, "folder of the two runs"] = Path("runs/demo")
    device: _Device = "auto"
    threads: _Threads = None


@configuration
class Embed:
    """The options of `vergence embed`."""

    model: _Model
    pictures: _PicturesOfRun = ()
    out: Annotated[Path, Metavar("FILE"), "the file to write, a .parquet, .csv or .npz"]
    batch_size: Annotated[_Count | None, "pictures that the encoder takes at once [32; 256 on a GPU]"] = None
    precision: Annotated[Precision, "of the encoder on a GPU"] = "float32"
    described: Described = Described()
    data_dir: _Folder = None
    device: _Device = "auto"
    threads: _Threads = None


@configuration
class Diagnose:
    """The options of `vergence diagnose`."""

    model: _Model
    pictures: _PicturesOfRun = ()
    beside: Annotated[str | None, Metavar("MODEL"), "another model, on the same pictures, in a second column"] = None
    json: Annotated[Path | None, Metavar("FILE.json"), "write every number there, with the spectra"] = None
    out: Annotated[Path | None, Metavar("FILE.html"), "write a page there"] = None
    views: Annotated[
        str | None,
        Metavar("NAME"),
        "the random views: blog, byol, simclr, raft-code [those of the run, else blog]",
    ] = None
    most: Annotated[int, AtLeast(2), "pictures looked at; other reports have so many"] = 10_000
    described: Described = Described()
    data_dir: _Folder = None
    device: _Device = "auto"
    threads: _Threads = None


@configuration
class Probe:
    """The options of `vergence probe`."""

    model: _Model
    pictures: _PicturesOfRun = ()
    described: Described = Described()
    labels: Annotated[
        tuple[Annotated[str, IsAmount()], ...],
        Metavar("AMOUNTS"),
        "how many are labelled, each amount in turn: 10% is a share of each class, 10 is so many pictures of each",
    ] = ("1%", "10%", "100%")
    seeds: Annotated[int, AtLeast(1), "how often, on other labelled pictures"] = 3
    out: Annotated[
        Path | None,
        "folder of the page; another model's rows are added [RUN/few-labels, else runs/few-labels-MODEL]",
    ] = None
    jobs: Annotated[_Count | None, "classifiers at a time [cores / threads; 1 on a GPU]"] = None
    data_dir: _Folder = None
    device: _Device = "auto"
    threads: Annotated[int, Between(1, 1024), "CPU threads of each classifier"] = 1


@configuration
class Finetune(Probe):
    """The options of `vergence finetune`."""

    crop_scale: Annotated[
        tuple[float, float] | None,
        Metavar("LOW,HIGH"),
        "share of the area that a crop keeps [as in training, else 0.2,1]",
    ] = None
    flip: Annotated[float | None, Between(0, 1), "probability of a mirror image [as in training, else 0.5]"] = None
    steps: Annotated[_Count | None, "of each fit [10 passes over the labelled pictures, at least 100]"] = None


@configuration
class Similar:
    """The options of `vergence similar`."""

    embeddings: Annotated[Path, Positional(), "a .parquet or .npz file with columns path and embedding"]
    pictures: Annotated[
        tuple[str, ...],
        Positional(),
        Metavar("PICTURES"),
        "as --data of vergence train takes them, for thumbnails and to compare pixels [only embeddings are compared]",
    ] = ()
    out: Annotated[Path, "the folder to write: index.html, neighbours.csv, pairs.csv, clusters.csv, map.csv"] = Path(
        "similar"
    )
    of: Annotated[
        tuple[str, ...], Repeated(), Metavar("PATH"), "a picture whose neighbours are wanted [a few of all]"
    ] = ()
    neighbours: Annotated[int, Between(1, 1000), "how many of each"] = 10
    clusters: Annotated[int | None, Between(1, 10_000), "how many [square root of n/2, at most 40]"] = None
    map: Annotated[Literal["pca", "umap", "none"], "how the plane is found"] = "pca"
    threshold: Annotated[
        float | None, Between(0, 1), "of pairs: agreement in pixels, at least [0.91; without pictures cosine, 0.99]"
    ] = None
    search: Annotated[Literal["exact", "faiss"], "how neighbours are found"] = "exact"
    seed: Annotated[int, AtLeast(0), "of clusters and map"] = 0
    data_dir: _Folder = None


OPTIONS: dict[str, type] = {
    cls.__name__.lower(): cls
    for cls in (
        *(Train, Evaluate, Embed, Similar, Diagnose, Data, Views, Reproduce, Sweep, Report, Export, Bench, Demo, Probe),
        Finetune,
    )
}
"""The options of each command of `parser.COMMANDS`."""

OF_PICTURES = ("data", "embed", "similar", "diagnose", "probe", "finetune")
"""The commands that take the options of a run that say how pictures are read."""

SETTINGS = ("train", "sweep", "views", "bench", *OF_PICTURES)
"""The commands that take the options of a run too."""
