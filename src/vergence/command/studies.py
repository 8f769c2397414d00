"""What `vergence reproduce` and `vergence sweep` do: a study here or on a cluster, then its page."""

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vergence import config, plugins
from vergence.command import models, sweeps
from vergence.command.arguments import add_options, option_names, read_options, words_of
from vergence.command.checks import one_of
from vergence.command.commands import Elsewhere, Reproduce, Sweep
from vergence.command.machine import device_named
from vergence.command.options import Override, data_named, parse
from vergence.command.parser import parser
from vergence.config.schema import said
from vergence.errors import InputError
from vergence.files.run_folder import check_output_outside_data
from vergence.grid.cluster import read_cluster, require_engine

STUDIES = {name: f"vergence.papers.{name}" for name in ("blog", "raft", "theorem", "family")}
"""The modules of the studies that have a name; each holds a `study`."""

EPILOG = """options of a run, as in vergence train --help, take one value or several here:
  --target moving-average,stop-gradient --optimizer.lr 0.03,0.06
where a value has commas itself, semicolons separate: --views.first.crop-scale '0.2,1;0.4,1'"""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of a study, by either command.

    Attributes:
        options: of the command.
        study: what is done and shown.
        scale: how much of it.
        only: rows that are done; none: all.
        out: folder of the page.
        name: how the study is found again.
        title: what the terminal says is done.
        command: what the page says makes it.
        words: of that command, as another process has them, wherever it starts.
    """

    options: Reproduce | Sweep
    study: Any  # a Study, whose type would import torch
    scale: Any
    only: Sequence[str] = ()
    out: Path
    name: str
    title: str
    command: str
    words: Sequence[str]


def reproduce(options: Reproduce, overrides: Sequence[Override]) -> int:
    """Run a study that has a name, or that of a file; return the exit code."""
    own = options.experiment not in STUDIES
    if not options.experiment.endswith(".py") and ".py:" not in options.experiment:
        one_of("experiment", options.experiment, tuple(STUDIES))
    only = [row.strip() for row in (options.rows or "").split(";") if row.strip()]
    if options.rows is not None and not only:
        raise InputError(f'--rows: {said(options.rows)} names no row; as in: --rows "BYOL;No Normalization"')
    data = data_named(options.data, options.data_dir) if options.data else None
    _check(options.elsewhere)
    from vergence.study import open_study

    with open_study(STUDIES.get(options.experiment) or options.experiment) as study:
        one_of("--scale", options.scale, tuple(study.scales))
        scale = study.scales[options.scale].changed(
            data=data, seeds=options.seeds, epochs=options.epochs, subset=options.subset
        )
        name = Path(options.experiment.replace(".py:", "-").removesuffix(".py")).name
        out = options.out or Path("runs") / f"{name}-{options.scale}"
        there = replace(options, experiment=os.path.abspath(options.experiment)) if own else options
        return _do(
            Asked(
                options=options,
                study=study,
                scale=scale,
                only=only,
                out=out,
                name=options.experiment,
                title=f"{options.experiment}, {options.scale}",
                command=f"vergence reproduce {shlex.quote(options.experiment)} --scale {shlex.quote(options.scale)}"
                + "".join(f" --data {shlex.quote(place)}" for place in options.data)
                + "".join(
                    f" --{option} {shlex.quote(str(value))}"
                    for option in ("epochs", "subset", "seeds", "rows")
                    if (value := getattr(options, option)) is not None
                ),
                words=_words("reproduce", there, out, data),
            )
        )


def sweep(options: Sweep, overrides: Sequence[Override]) -> int:
    """Run every combination of the values that options have; return the exit code."""
    _check(options.elsewhere)
    rows = {name: models.started(run, overrides) for name, run in sweeps.rows_of(options, overrides).items()}
    data = next(iter(rows.values())).data
    out = options.out or Path("runs") / sweeps.name_of(options, rows)
    given = [word for name, value in overrides for word in (f"--{name}", value or "")]
    elsewhere = {"out": None, "jobs": None, "elsewhere": Elsewhere(), "data_dir": None, "device": "auto", "threads": 1}
    own = words_of(replace(options, no_views=False, **elsewhere))
    from vergence.study.sweep import sweep_study

    study = sweep_study(rows, seeds=options.seeds, periods=options.periods)
    return _do(
        Asked(
            options=options,
            study=study,
            scale=study.full,
            out=out,
            name="sweep",
            title=f"sweep of {len(rows)} row{'' if len(rows) == 1 else 's'}",
            command=shlex.join(["vergence", "sweep", *own, *given]),
            words=[*_words("sweep", options, out, data if options.data else None), *given],
        )
    )


def sweep_again(command: str) -> Any:  # a Study
    """Return the study of a sweep from the command that its page shows.

    Raises:
        InputError: it is no such command.
    """
    overrides, words = parse(shlex.split(command)[1:], option_names(Sweep))
    top, commands = parser()
    add_options(commands["sweep"], Sweep)
    known = top.parse_args(words)
    if known.command != "sweep":
        raise InputError(f"the results say that {said(command)} made them, which is no sweep")
    asked = read_options(Sweep, known)
    from vergence.study.sweep import sweep_study

    return sweep_study(sweeps.rows_of(asked, overrides), seeds=asked.seeds, periods=asked.periods)


def _check(elsewhere: Elsewhere) -> None:
    """See that options of where jobs are done do not contradict each other, and that what they need is installed."""
    alone = {"--print-commands": elsewhere.print_commands, "--job": elsewhere.job, "--runner": elsewhere.runner}
    given = [option for option, value in alone.items() if value] + (["--on"] if elsewhere.on != "local" else [])
    if len(given) > 1:
        raise InputError(f"{given[0]} and {given[1]}: give one of them")
    if elsewhere.cluster is not None and elsewhere.on == "local":
        raise InputError("--cluster: says what to ask of a cluster; give --on slurm or --on ray too")
    require_engine(elsewhere.on)


def _words(command: str, options: Reproduce | Sweep, out: Path, data: config.Data | None) -> list[str]:
    """Return the words of a command as another process has them, wherever it starts: its paths are absolute."""
    places = options.data
    if isinstance(data, config.Folder):
        places = (data.root, *data.more)
    data_dir = None if options.data_dir is None else Path(os.path.abspath(options.data_dir))
    there = replace(
        options, out=Path(os.path.abspath(out)), data=places, data_dir=data_dir, elsewhere=Elsewhere(), no_views=False
    )
    files = plugins.environment().get(plugins.VARIABLE, "").split(os.pathsep)
    return [*(word for file in files if file for word in ("--plugin", file)), command, *words_of(there)]


def _do(asked: Asked) -> int:
    options, elsewhere, out = asked.options, asked.options.elsewhere, asked.out
    from vergence.grid.live import open_grid_view
    from vergence.report import tables, text
    from vergence.study import PAGE, PageOptions, Place, reproduce
    from vergence.study.reproduction import do_jobs, planned

    check_output_outside_data(asked.scale.asked, out, options.data_dir)
    device = device_named(options.device)
    at_once = options.jobs or (1 if device.type == "cuda" else max(1, (os.cpu_count() or 1) // options.threads))
    place = Place(
        data_dir=options.data_dir,
        device=str(device),
        threads=options.threads,
        at_once=at_once,
        engine=_engine(asked),
    )
    console = text.console()
    if elsewhere.print_commands or elsewhere.job is not None or elsewhere.runner:
        _, jobs = planned(asked.study, asked.scale, out, place, asked.only)
        if elsewhere.print_commands:
            return _print_commands(asked, [job.name for job in jobs if not job.finished(out / "runs" / job.folder)])
        view = open_grid_view(console, asked.title)
        failures = do_jobs(jobs, out, place=place, view=view, name=elsewhere.job)
        return _end(failures)
    page, failures = reproduce(
        asked.study,
        asked.scale,
        out,
        place=place,
        view=open_grid_view(console, asked.title),
        only=asked.only,
        page=PageOptions(views=not options.no_views, study=asked.name, command=asked.command),
    )
    tables.print_page(console, page)
    console.print(f"page: {out / PAGE}", soft_wrap=True)
    return _end(failures)


def _engine(asked: Asked) -> Any:
    """Return what has the jobs done on a cluster; None where this machine does them."""
    elsewhere = asked.options.elsewhere
    if elsewhere.on == "local":
        return None
    cluster = read_cluster(elsewhere.cluster)
    if elsewhere.on == "ray":
        from vergence.grid.ray_tasks import Ray

        return Ray(cluster, asked.words)
    from vergence.grid.slurm import Slurm

    share = 1 if cluster.gpus else max(1, cluster.cpus // asked.options.threads)
    at_once = [] if asked.options.jobs else ["--jobs", str(share)]
    return Slurm(cluster, [*asked.words, "--runner", *at_once], asked.out / "cluster")


def _print_commands(asked: Asked, names: Sequence[str]) -> int:
    for name in names:
        print(shlex.join(["vergence", *asked.words, "--job", name]))
    if not names:
        print(f"{asked.out}: every run is done; the command without --print-commands writes the page", file=sys.stderr)
    return 0


def _end(failures: Any) -> int:
    for job, failure in failures.items():
        print(f"error: {job}: {failure.message}", file=sys.stderr)
    return max((failure.exit_code for failure in failures.values()), default=0)
