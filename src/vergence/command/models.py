"""What the commands about a trained encoder do with their options. torch is imported only once there is work."""

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vergence import config, presets
from vergence.command import options
from vergence.command.arguments import option_names
from vergence.command.checks import file_to_write, one_of
from vergence.command.commands import Described, Diagnose, Embed, Export, Finetune, Probe, Similar
from vergence.command.machine import device_named, machine, place_of
from vergence.command.options import Override, data_named
from vergence.config import suggest
from vergence.config.views import VIEWS
from vergence.errors import InputError
from vergence.exports.suffixes import format_of
from vergence.files.run_folder import RUN, check_output_outside_data


def opened(name: str, described: Described) -> Any:  # a Model, whose type would import torch
    """Return the model that a command names, with what its options say of it."""
    from vergence.runs import open_model

    encoder, size, mean, std = described.encoder, described.size, described.mean, described.std
    return open_model(name, encoder=encoder, size=size, mean=mean, std=std)


def started(run: config.Run, overrides: Sequence[Override], *, again: bool = False) -> config.Run:
    """Return the run with what its weights decide and no option does.

    Args:
        run: has the options.
        overrides: which those were.
        again: whether the run is that of a `run.json`, which decides all where it names the weights.
    """
    if run.encoder.weights is None:
        return run
    from vergence.runs import from_weights

    typed = {name.split(".")[-1] for name, _ in overrides if not name.startswith("encoder.weights")}
    again = again and not any(name == "encoder.weights" for name, _ in overrides)
    kept = {"encoder" if name in ("name", "stem", "norm") else name for name in typed}
    return from_weights(run, ("encoder", "size", "mean", "std") if again else kept)


def _export(asked: Export, overrides: Sequence[Override]) -> int:
    format_of(asked.out, asked.format)  # before torch is imported
    from vergence.exports.export import export

    model = opened(asked.model, asked.described)
    done = export(model, asked.out, format=asked.format, data_dir=asked.data_dir)
    file, description, card = done.files
    for remark in model.remarks:
        print(f"{model.name}: {remark}")
    size = f"{file.stat().st_size / 1e6:,.1f} MB"
    print(f"{asked.out}: {done.format}, {size}, within {done.difference:.1e} of {model.name} on {done.compared}")
    print(f"{description}: what its pictures must be like; {card}: its card")
    return 0


def pictures_for(
    model: Any, named: Sequence[str], overrides: Sequence[Override], data_dir: Path | None, beside: Sequence[str] = ()
) -> config.Data:
    """Return the pictures that a command names for a model, read as those of its run, and as options say.

    Args:
        model: of `opened`.
        named: as --data of vergence train takes them; none: those of the run, wherever they lie now.
        overrides: options, which must all be of pictures.
        data_dir: where they may lie.
        beside: the command's own options, of which one may have been meant.

    Raises:
        InputError: none are named, and the model is not of a run; or an option is unknown.
    """
    from vergence.runs.pictures import settled

    if named:
        asked = data_named(named, data_dir)
        data = replace(asked, size=model.views.size) if model.run is None else config.instead(asked, model.run.data)
    elif model.run is None:
        raise InputError(f"{model.name}: is not of a run that has pictures; name some, as in ./pictures")
    else:
        data = settled(model.run, model.folder, data_dir).data
    return read_as(data, overrides, beside, skip=True)


def read_as(data: config.Data, overrides: Sequence[Override], beside: Sequence[str], *, skip: bool) -> config.Data:
    """Return pictures read as options say; with `skip` without those that cannot be read, unless an option says else.

    Raises:
        InputError: an option is unknown, or none of how such pictures are read.
    """
    options.only_of_pictures(overrides, "--data.labels, --data.channels, ...")
    if skip and isinstance(data, config.Folder):
        data = replace(data, bad_images="skip")
    run = replace(presets.preset("default", "byol", config.Digits()), data=data)
    return options.apply(run, overrides, beside=beside).data


def _named(asked: Similar | Diagnose | Probe, overrides: Sequence[Override], *, skip: bool = False) -> Any:
    """Return the pictures that stand behind a model, read as options say; None where none are named."""
    own, command = option_names(type(asked)), f"vergence {type(asked).__name__.lower()}"
    for name, _ in overrides:
        if not name.startswith("data."):
            meant = suggest.argument(f"--{name}", command, [f"--{option}" for option in own])
            raise InputError(f"unexpected argument '--{name}'; {meant}")
    if asked.pictures:
        return read_as(data_named(asked.pictures, asked.data_dir), overrides, own, skip=skip)
    if overrides:
        name, _ = overrides[0]
        raise InputError(f"--{name}: of which pictures? Name them too, as in ./pictures")
    return None


def _embed(asked: Embed, overrides: Sequence[Override], group) -> int:  # of a Group, whose type would import torch
    from vergence.files.embeddings import joined_by

    out = file_to_write("--out", asked.out)
    joined_by(out)  # refuses what cannot be written before torch is imported
    from vergence.runs import embed

    model = opened(asked.model, asked.described)
    pictures = pictures_for(model, asked.pictures, overrides, asked.data_dir, option_names(Embed))
    check_output_outside_data(pictures, out, asked.data_dir)
    with machine(asked) as device:
        where = place_of(asked, device, group)
        done = embed(model, pictures, out, where=where, batch_size=asked.batch_size, precision=asked.precision)
    for remark in model.remarks:
        print(f"{model.name}: {remark}")
    print(f"{asked.out}: {done.rows:,} pictures, {model.dim} numbers each, by {model.name}")
    if done.bad_file is not None and where.group.is_main:
        bad = f"{done.bad:,} of {done.rows + done.bad:,} pictures cannot be used"
        print(f"warning: {bad}; they have no row, and {asked.out.with_suffix('.bad.csv')} lists them", file=sys.stderr)
    return 0


def _similar(asked: Similar, overrides: Sequence[Override]) -> int:
    data = _named(asked, overrides, skip=True)
    out = asked.out.resolve()
    if out.exists() and not out.is_dir():
        raise InputError(f"--out: {asked.out} is a file; name a folder")
    check_output_outside_data(data, out, asked.data_dir)
    from vergence.files import durable
    from vergence.files.embeddings import read_embeddings
    from vergence.report import text
    from vergence.report.page import write_page
    from vergence.report.similar import describe, similar_page
    from vergence.runs.similar import Asked, similar, write_tables

    names = ("of", "neighbours", "clusters", "map", "threshold", "search", "seed")
    request = Asked(**{name: getattr(asked, name) for name in names})
    found = similar(read_embeddings(asked.embeddings), request, data=data, data_dir=asked.data_dir)
    text.print_block(text.console(), describe(found))
    durable.make_folder(out)
    write_tables(found, out)
    command = shlex.join(["vergence", "similar", str(asked.embeddings), *asked.pictures])
    write_page(similar_page(found, command), out / "index.html")
    print(f"page: {asked.out / 'index.html'}")
    return 0


def _diagnose(asked: Diagnose, overrides: Sequence[Override], group) -> int:
    files = [
        (option, None if path is None else file_to_write(option, path))
        for option, path in (("--json", asked.json), ("--out", asked.out))
    ]
    if asked.views is not None:
        one_of("--views", asked.views, tuple(VIEWS), "pipeline")
    for place in asked.pictures:
        if (Path(place) / RUN).exists():
            raise InputError(f"{place}: is a run, no pictures; a second model is given with --beside")
    named = _named(asked, overrides)
    from vergence.files import durable
    from vergence.report import text
    from vergence.report.diagnosis import diagnosis_page, print_diagnoses
    from vergence.report.page import write_page
    from vergence.runs import diagnose

    names = [asked.model, *([] if asked.beside is None else [asked.beside])]
    models = [opened(name, asked.described) for name in names]
    runs = [model.run for model in models if model.run is not None]
    own = [run.data for run in runs]
    views = next((run.views for run in runs), None) if asked.views is None else VIEWS[asked.views]
    if named is None and own[1:] and own[0] != own[1]:
        raise InputError("the two were trained on different pictures; name those to compare them on, after the model")
    for _, path in files:
        if path is not None and (shared := named or next(iter(own), None)) is not None:
            check_output_outside_data(shared, path, asked.data_dir)
    with machine(asked) as device:
        where = place_of(asked, device, group)
        pictures = [named if named is not None or model.run is not None else next(iter(own), None) for model in models]
        found = [
            diagnose(model, data, views=views, where=where, most=asked.most)
            for model, data in zip(models, pictures, strict=True)
        ]
    console = text.console()
    print_diagnoses(console, found)
    (_, written), (_, page) = files
    if written is not None and where.group.is_main:
        durable.write_json(written, {"diagnoses": [one.to_dict() for one in found]})
        console.print(f"numbers: {asked.json}", soft_wrap=True)
    if page is not None and where.group.is_main:
        words = [asked.model, *asked.pictures, *([] if asked.beside is None else ["--beside", asked.beside])]
        write_page(diagnosis_page(found, shlex.join(["vergence", "diagnose", *words])), page)
        console.print(f"page: {asked.out}", soft_wrap=True)
    return 0


def _few_labels(asked: Probe, overrides: Sequence[Override]) -> int:
    """Answer `vergence probe`, and `vergence finetune`, which asks for more."""
    data = _named(asked, overrides)
    from vergence.few_labels import Named, Question, amount, compare
    from vergence.few_labels.compare import PAGE
    from vergence.grid.live import open_grid_view
    from vergence.report import tables, text
    from vergence.study.scale import Place

    described = asked.described
    question = Question(
        model=Named(
            what=asked.model,
            encoder=described.encoder,
            size=described.size,
            mean=described.mean,
            std=described.std,
        ),
        data=data,
        labels=tuple(dict.fromkeys(map(amount, asked.labels))),
        seeds=asked.seeds,
        finetune=isinstance(asked, Finetune),
        crop_scale=asked.crop_scale if isinstance(asked, Finetune) else None,
        flip=asked.flip if isinstance(asked, Finetune) else None,
        steps=asked.steps if isinstance(asked, Finetune) else None,
    )
    device, console = device_named(asked.device), text.console()
    at_once = asked.jobs or (1 if device.type == "cuda" else max(1, (os.cpu_count() or 1) // asked.threads))
    name = type(asked).__name__.lower()
    labels, words = ",".join(asked.labels), ["vergence", name, asked.model, *asked.pictures]
    found = compare(
        question,
        asked.out,
        place=Place(data_dir=asked.data_dir, device=str(device), threads=asked.threads, at_once=at_once),
        view=open_grid_view(console, f"{name}, {labels}"),
        command=shlex.join([*words, "--labels", labels, "--seeds", str(asked.seeds)]),
    )
    for section in found.page.sections:
        for sentence in section.text:
            console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    tables.print_page(console, found.page)
    if found.classifier:
        console.print(f"classifier: {found.classifier}", soft_wrap=True)
    console.print(f"page: {found.folder / PAGE}", soft_wrap=True)
    for job, failure in found.failures.items():
        print(f"error: {job}: {failure.message}", file=sys.stderr)
    return max((failure.exit_code for failure in found.failures.values()), default=0)


HANDLERS: dict[str, Callable[[Any, Sequence[Override]], int]] = {
    "export": _export,
    "finetune": _few_labels,
    "probe": _few_labels,
    "similar": _similar,
}
"""What each of these commands does, by its name."""

SHARED: dict[str, Callable[[Any, Sequence[Override], Any], int]] = {"diagnose": _diagnose, "embed": _embed}
"""What several processes can do together; the third argument is their group, None where there is one."""
