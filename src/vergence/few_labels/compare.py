"""Does it help? A trained encoder beside the weights it started from and random ones, on a few labelled pictures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vergence.config import Data, Local, View, data_name
from vergence.config.labels import Amount
from vergence.config.schema import to_dict
from vergence.data.images import Images, unscored
from vergence.data.splits import few
from vergence.errors import InputError
from vergence.few_labels.classifier import WEIGHTS
from vergence.few_labels.fits import Fit, FitJob, Named, Pictures, Protocol, Weights, encoder_of
from vergence.few_labels.page import page_of, results_csv
from vergence.few_labels.results import Outcome, outcomes
from vergence.files import durable
from vergence.files.names import shown
from vergence.files.run_folder import check_output_outside_data
from vergence.grid import run_grid
from vergence.grid.status import Failure, GridView
from vergence.networks.weights import weights_digest
from vergence.report.content import Page
from vergence.report.page import write_files, write_page
from vergence.runs import Model
from vergence.runs.pictures import digest_of, to_score
from vergence.study.scale import Place

FITS = "fits"
PAGE = "index.html"
HERE = Place()


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of an encoder.

    Attributes:
        model: the encoder.
        data: the labelled pictures; None: those of its run.
        labels: how many of them are labelled, each amount in turn.
        seeds: how often each is done, on other pictures and from other random weights.
        finetune: whether all weights are fine-tuned too, beside a linear probe of frozen ones.
        crop_scale: share of the area that a crop keeps in fine-tuning; None: as the run was trained, else View's.
        flip: probability that a crop is mirrored; None: likewise.
        steps: of each fine-tuning; None: as the number of labelled pictures decides.
    """

    model: Named
    data: Data | None = None
    labels: tuple[Amount, ...]
    seeds: int = 3
    finetune: bool = False
    crop_scale: tuple[float, float] | None = None
    flip: float | None = None
    steps: int | None = None


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        page: the page.
        folder: where it lies.
        failures: what failed, by the name of the classifier.
        classifier: where the model's classifier that was fine-tuned on the most labels lies, and its score, in words;
            empty where none was.
    """

    page: Page
    folder: Path
    failures: Mapping[str, Failure]
    classifier: str


@dataclass(frozen=True)
class _Row:
    """An encoder of the comparison: what it is called, whose it is, and which weights it has."""

    name: str
    weights: Weights


def compare(
    question: Question, out: Path | None = None, *, place: Place = HERE, view: GridView | None = None, command: str = ""
) -> Comparison:
    """Fit and score what is missing, then write the page, its table, its figure, and every number.

    Killed and started again it redoes no classifier that is finished. Another model on the same pictures, in the same
    folder, is added as further rows. A script calls this under `if __name__ == "__main__":`, for the processes that do
    the work import it.

    Args:
        question: what is asked.
        out: gets `fits/` with a folder for each classifier, `index.html`, `results.csv` with each of them,
            `results.md`, and the table and the figure as files; None: RUN/few-labels, or runs/few-labels-MODEL.
        place: where the pictures are, what to compute on, and how many classifiers at a time.
        view: told what happens; None: nobody is.
        command: what makes the page, in words.

    Raises:
        InputError: the model, the pictures or the amounts of labels do not fit each other; nothing is written then.
    """
    model = question.model.open()
    pictures = _pictures_of(model, question, place)
    out = out or (model.folder / "few-labels" if model.folder else Path("runs") / f"few-labels-{_file_name(model)}")
    check_output_outside_data(pictures.data, out, place.data_dir)
    train, test = pictures.load("train"), pictures.load("test")
    if (reason := unscored(train, test)) is not None:
        raise InputError(f"{data_name(pictures.data)}: {reason}; there is nothing to fit on")
    whole = [_counted(train, wanted) == len(train) for wanted in question.labels]
    rows = list(_rows(model, question))
    jobs = list(_jobs(question, [row for row, _ in rows if row.name], pictures, digest_of((train, test)), whole, place))
    _require_alike([job.task for job in jobs], outcomes(out / FITS), out)
    failures = run_grid(jobs, out / FITS, at_once=place.at_once, threads=place.threads, view=view or GridView())
    found = outcomes(out / FITS)
    remarks = [*model.remarks, *(said for _, said in rows if said)]
    page = page_of(found, pictures.data, (len(train), len(test), test.split_name), remarks, command)
    write_files(page, out)
    durable.write_file(out / "results.csv", results_csv(found).encode())
    write_page(page, out / PAGE)
    return Comparison(page, out, failures, _classifier(found, jobs))


def _classifier(found: Sequence[Outcome], jobs: Sequence[FitJob]) -> str:
    asked = {job.key for job in jobs}
    kept = [one for one in found if one.key in asked and (one.folder / WEIGHTS).exists()]
    if not kept:
        return ""
    best = kept[-1]  # they are in the order of the number of labelled pictures
    return f"{best.folder} ({best.count} labelled pictures, seed {best.seed}: {best.accuracy:.1f}%)"


def _pictures_of(model: Model, question: Question, place: Place) -> Pictures:
    if model.run is not None and model.folder is not None:
        run, _ = to_score(model.run, model.folder, question.data, place.data_dir)
        return Pictures(data=run.data, subset=run.subset, data_dir=place.data_dir)
    if question.data is None:
        raise InputError(f"{model.name}: on which labelled pictures? Name them, as in ./pictures")
    return Pictures(data=replace(question.data, size=model.views.size), data_dir=place.data_dir)


def _file_name(model: Model) -> str:
    return "".join(c if c.isalnum() or c in "_.-" else "-" for c in model.name).strip("-.")[:60]


def _counted(train: Images, wanted: Amount) -> int:
    """Return how many pictures an amount of labels is, of all classes.

    Raises:
        InputError: a class has too few pictures for it.
    """
    assert train.labels is not None
    for name, there in zip(train.classes, train.labels.bincount(minlength=len(train.classes)).tolist(), strict=True):
        count = wanted.count(there)
        if 0 < there < count or (count and not there):
            raise InputError(f"--labels {wanted}: class {shown(name)} has only {there} pictures to fit on")
        if not count:
            least = f"the least share is {100 / there:.2g}%" if there else "no share has one"
            raise InputError(f"--labels {wanted}: of the {there} pictures of class {shown(name)} that is none; {least}")
    return len(few(train.keys, train.labels.tolist(), wanted.count, 0))


def _rows(model: Model, question: Question) -> Iterator[tuple[_Row, str]]:
    """Yield the encoders that are compared; a row without a name is left out, for the reason beside it."""
    yield _Row(model.name, "trained"), ""
    if model.run is not None and model.run.encoder.weights is not None:
        try:
            encoder_of(question.model, "starting", 0)
            yield _Row(f"starting weights ({Path(model.run.encoder.weights).name})", "starting"), ""
        except InputError as error:
            yield _Row("", "starting"), f"its starting weights are left out: {error}"
    if model.untrained() is None:
        if question.finetune:
            raise InputError(f"{model.name}: an exported program has no weights to train; use vergence probe")
        yield _Row("", "random"), "random weights are left out: an exported program can be given none"
    else:
        yield _Row(f"random weights ({_architecture(model)})", "random"), ""


def _architecture(model: Model) -> str:
    if (encoder := model.architecture) is None:
        return f"of {model.name}"
    stem = f", {encoder.stem} stem" if encoder.stem != "imagenet" else ""
    norm = f", {encoder.norm} norm" if encoder.norm != "batch" else ""
    return f"{encoder.name}{stem}{norm}, {model.views.size} px"


def _jobs(
    question: Question, rows: Sequence[_Row], pictures: Pictures, digests: str, whole: Sequence[bool], place: Place
) -> Iterator[FitJob]:
    """Yield a job for each classifier, those of one encoder together: its features are taken once.

    On all pictures the linear probe of weights that are not random is the same for each seed: it is fitted once.
    """
    model = question.model.open()
    usual = View() if model.run is None else model.views.first
    crops = replace(
        View(jitter=0.0, gray=0.0, blur=0.0),
        crop_scale=question.crop_scale or usual.crop_scale,
        flip=usual.flip if question.flip is None else question.flip,
    )
    frozen = replace(model.views, first=View(), second=View(), local=Local())
    views = {"linear probe": frozen, "fine-tuned": replace(frozen, first=crops, second=crops)}
    protocols: tuple[Protocol, ...] = ("linear probe", "fine-tuned") if question.finetune else ("linear probe",)
    for row in rows:
        known = ""
        for seed in range(question.seeds):
            if row.weights == "random" or not known:
                known = weights_digest(encoder_of(question.model, row.weights, seed)[0], model.views.size)
            for protocol in protocols:
                for wanted, is_whole in zip(question.labels, whole, strict=True):
                    same = is_whole and protocol == "linear probe" and row.weights != "random"
                    if seed and same:
                        continue
                    task = Fit(
                        encoder=known,
                        weights=row.weights,
                        pictures=digests,
                        views=views[protocol],
                        labels=str(wanted),
                        seed=seed,
                        protocol=protocol,
                        steps=question.steps if protocol == "fine-tuned" else None,
                    )
                    yield FitJob(
                        name=f"{row.name}, {protocol}, {wanted.words}, seed {seed}",
                        task=task,
                        row=row.name,
                        beside=tuple(other.name for other in rows[1:]) if row == rows[0] else (),
                        model=question.model,
                        pictures=pictures,
                        whole=same,
                        keep=protocol == "fine-tuned" and row.weights == "trained" and seed == 0,
                        data_dir=place.data_dir,
                        device=place.device,
                        work=10.0 if protocol == "fine-tuned" else 1.0,
                    )


def _require_alike(asked: Sequence[Fit], there: Sequence[Outcome], out: Path) -> None:
    """See that what a folder holds may stand in one table with what is asked for.

    Raises:
        InputError: it is on other pictures, or fine-tuned by another recipe.
    """
    recipes = [(to_dict(fit.views.first), fit.steps) for fit in asked if fit.protocol == "fine-tuned"]
    for outcome in there:
        if outcome.digest != asked[0].pictures:
            raise InputError(f"{out}: holds results on other pictures; choose another --out")
        if outcome.protocol == "fine-tuned" and recipes and (outcome.crops, outcome.steps) != recipes[0]:
            raise InputError(f"{out}: holds results by other crops or steps; choose another --out, or those of before")
