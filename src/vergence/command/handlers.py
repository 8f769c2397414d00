"""What each command does with its words. torch is imported only once there is work."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from vergence import plugins
from vergence.command.arguments import add_arguments
from vergence.command.checks import file_to_write, none_empty, path_of
from vergence.command.options import read_fields
from vergence.command.parser import COMMANDS, parser
from vergence.command.process import variables_put_back
from vergence.config.checks import at_least, at_most, names, one_of
from vergence.config.schema import said
from vergence.engine.periods import Periods
from vergence.engine.probing import Probing
from vergence.errors import InputError

STUDIES = {name: f"vergence.papers.{name}" for name in ("blog", "raft", "theorem")}
"""The modules of the studies that have a name; each holds a `study`."""

COMPILE = ("auto", "none", "graph", "full")
MOST_THREADS = 1024


def dispatch(words: list[str]) -> int:
    """Do what the words of a command ask for; return its exit code."""
    none_empty(words)
    words, files = _split_plugins(words)
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        from vergence.config import suggest  # reads every configuration there is: a third of the time that help takes

        raise InputError(f"unknown command {said(words[0])}; {suggest.choice(words[0], COMMANDS)}")
    top, commands = parser()
    add_arguments(commands)
    for path in files:
        plugins.load(path)
    plugins.load_named()
    if words[:1] == ["train"] and {"-h", "--help"} & set(words):
        from vergence.command.options import describe

        commands["train"].epilog = describe()
    rest: list[str] = []
    if words[:1] in (["train"], ["views"], ["bench"]):
        from vergence.command.options import split_arguments

        words, rest = split_arguments(words, commands[words[0]])
    known, strange = top.parse_known_args(words)
    if known.command is None:
        top.print_help()
        return 0
    if strange:
        from vergence.config import suggest

        command = commands[known.command]
        meant = suggest.argument(strange[0], command.prog, command._option_string_actions)
        raise InputError(f"unexpected argument {said(strange[0])}; {meant}")
    if getattr(known, "data_dir", None) is None and os.environ.get("VERGENCE_DATA_DIR"):
        known.data_dir = Path(os.environ["VERGENCE_DATA_DIR"])
    handlers = {
        "train": _train,
        "evaluate": _evaluate,
        "views": _views,
        "reproduce": _reproduce,
        "report": _report,
        "bench": _bench,
        "demo": _demo,
    }
    try:
        return handlers[known.command](known, rest)
    finally:
        if (before := getattr(known, "threads_before", None)) is not None:  # of a program that goes on
            import torch

            torch.set_num_threads(before)


def _split_plugins(words: list[str]) -> tuple[list[str], list[Path]]:
    """Return the words without `--plugin FILE`, wherever it stands, and the files."""
    rest, files, remaining = [], [], list(words)
    while remaining:
        name, equals, value = (word := remaining.pop(0)).partition("=")
        if name != "--plugin":
            rest.append(word)
        elif equals or remaining:
            files.append(path_of(value if equals else remaining.pop(0)))
        else:
            raise InputError("--plugin: a file is missing, as in --plugin mine.py")
    return rest, files


def _run_of(known: argparse.Namespace, rest: list[str], method: str | None):  # its type would import torch
    from vergence import presets
    from vergence.command import options

    overrides = options.parse(rest)
    beside = [name.replace("_", "-") for name in vars(known) if name not in ("command", "method")]
    if getattr(known, "config", None) is not None:
        from vergence.files.run_folder import RUN, found_again, is_of_run, read_run

        if is_of_run(known.config.name) and known.config.name != RUN:
            raise InputError(f"--config: {known.config} says how a run went; give the {RUN} beside it")
        if known.preset or method is not None:
            raise InputError("--config says what to run: leave out the method and --preset")
        run = read_run(known.config)
        if known.data is None:
            pictures = found_again(run.data, known.config.parent, known.data_dir)
        else:
            pictures = options.data_named(known.data, known.data_dir)
        return options.apply(run, overrides, pictures, beside)
    if method is None and known.resume:
        raise InputError("--resume: which run? As in: vergence train --config FOLDER/run.json --out FOLDER --resume")
    if method is None:
        raise InputError(f"which method? As in: vergence train byol; one of {', '.join(presets.methods())}")
    stands_for = {"blog": "stl10", "raft": "cifar10", "raft-code": "cifar10"}
    name = getattr(known, "preset", None) or "default"
    data = options.data_named(known.data or stands_for.get(name, "digits"), getattr(known, "data_dir", None))
    return options.apply(presets.preset(name, method, data), overrides, beside=beside)


def _train(known: argparse.Namespace, rest: list[str]) -> int:
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return _train_run(known, rest)
    with variables_put_back("TORCH_CPP_LOG_LEVEL", "GLOO_SOCKET_IFNAME"):
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # or torch shows C++ frames of connections that end
        from vergence.machine.processes import joined

        with joined() as group:
            return _train_run(known, rest, group)


def _train_run(known: argparse.Namespace, rest: list[str], group=None) -> int:  # a Group, whose type would import torch
    run = _run_of(known, rest, known.method)
    periods = read_fields(Periods, known)
    one_of("--compile", known.compile, COMPILE)
    from vergence import register
    from vergence.engine.reporter import Reporters
    from vergence.engine.where import Where

    trackers = names("--track", known.track, sorted(register.TRACKERS), "tracker")
    from vergence.machine.processes import SINGLE_PROCESS
    from vergence.report import text
    from vergence.report.live import open_view
    from vergence.runs import find_finished, run_training
    from vergence.runs.pictures import kept_in

    group = group or SINGLE_PROCESS
    device = group.local_device(_machine(known))
    folder = known.out or Path(group.broadcast_object(lambda: str(kept_in(run, Path("runs"), known.data_dir))))
    console = text.console()
    summary = group.broadcast_object(lambda: find_finished(run, folder, known.resume, known.data_dir))
    if summary is not None and group.is_main:
        console.print(f"{folder}: this run is there, finished")
    if summary is None:
        reporter = None
        if group.is_main:
            live = open_view(console, f"{run.method.kind} on {run.data.kind}, {run.encoder.name}")
            reporter = Reporters([live, *(register.TRACKERS[name](run, folder) for name in trackers)])
        where = Where(data_dir=known.data_dir, device=device, compile=known.compile, group=group)
        summary = run_training(run, folder, where=where, periods=periods, resume=known.resume, reporter=reporter)
    if group.is_main:
        text.print_summary(console, folder, summary)
    return 0


def _evaluate(known: argparse.Namespace, rest: list[str]) -> int:
    probing = read_fields(Probing, known)
    from vergence.command.options import data_named
    from vergence.engine.where import Where
    from vergence.report import text
    from vergence.runs import score

    scores = score(
        known.run,
        data=None if known.data is None else data_named(known.data, known.data_dir),
        where=Where(data_dir=known.data_dir, device=_machine(known)),
        random=known.random,
        probing=probing,
    )
    text.print_scores(text.console(), scores)
    return 0


def _views(known: argparse.Namespace, rest: list[str]) -> int:
    run = _run_of(known, rest, "byol")
    at_least("--count", known.count, 1)
    at_most("--count", known.count, 1000)
    out = file_to_write("--out", known.out)
    if known.out.suffix.lower() != ".png":
        raise InputError(f"--out: views are drawn as a PNG file; call it {known.out.with_suffix('.png')}")
    from vergence.files import durable
    from vergence.files.run_folder import check_output_outside_data
    from vergence.report.views import draw_views

    check_output_outside_data(run.data, out, known.data_dir)
    durable.write_file(out, draw_views(run, count=known.count, data_dir=known.data_dir))
    print(f"{known.out}: {known.count} pictures, three draws of both views each")
    return 0


def _reproduce(known: argparse.Namespace, rest: list[str]) -> int:
    from vergence.command.options import data_named

    if not known.experiment.endswith(".py") and ".py:" not in known.experiment:
        one_of("experiment", known.experiment, tuple(STUDIES))
    for name in ("jobs", "threads", "seeds", "epochs", "subset"):
        if getattr(known, name) is not None:
            at_least(f"--{name}", getattr(known, name), 1)
    at_most("--threads", known.threads or 1, MOST_THREADS)
    only = [row.strip() for row in (known.rows or "").split(";") if row.strip()]
    if known.rows is not None and not only:
        raise InputError(f'--rows: {said(known.rows)} names no row; as in: --rows "BYOL;No Normalization"')
    data = None if known.data is None else data_named(known.data, known.data_dir)
    from vergence.study import open_study

    with open_study(STUDIES.get(known.experiment) or known.experiment) as study:
        one_of("--scale", known.scale, tuple(study.scales))
        scale = study.scales[known.scale].changed(
            data=data, seeds=known.seeds, epochs=known.epochs, subset=known.subset
        )
        return _reproduce_study(known, study, scale, only)


def _reproduce_study(known: argparse.Namespace, study, scale, only: Sequence[str]) -> int:  # types would import torch
    from vergence.files.run_folder import check_output_outside_data
    from vergence.grid.live import open_grid_view
    from vergence.report import tables, text
    from vergence.study import PAGE, PageOptions, Place, reproduce

    name = Path(known.experiment.replace(".py:", "-").removesuffix(".py")).name
    out = known.out or Path("runs") / f"{name}-{known.scale}"
    check_output_outside_data(scale.asked, out, known.data_dir)
    threads, known.threads = known.threads or 1, None
    device = _machine(known)
    at_once = known.jobs or (1 if device.type == "cuda" else max(1, (os.cpu_count() or 1) // threads))
    console = text.console()
    page, failures = reproduce(
        study,
        scale,
        out,
        place=Place(data_dir=known.data_dir, device=str(device), threads=threads, at_once=at_once),
        view=open_grid_view(console, f"{known.experiment}, {known.scale}"),
        only=only,
        page=PageOptions(
            views=not known.no_views,
            command=f"vergence reproduce {shlex.quote(known.experiment)} --scale {shlex.quote(known.scale)}"
            + "".join(
                f" --{option} {shlex.quote(str(value))}"
                for option in ("data", "epochs", "subset", "seeds", "rows")
                if (value := getattr(known, option)) is not None
            ),
        ),
    )
    tables.print_page(console, page)
    console.print(f"page: {out / PAGE}", soft_wrap=True)
    for job, failure in failures.items():
        print(f"error: {job}: {failure.message}", file=sys.stderr)
    return max((failure.exit_code for failure in failures.values()), default=0)


def _report(known: argparse.Namespace, rest: list[str]) -> int:
    from vergence.report.page import runs_page, write_page

    out = file_to_write("--out", known.out)
    command = shlex.join(["vergence", "report", *map(str, known.runs)])
    page, problems = runs_page(known.runs, data_dir=known.data_dir, show_views=not known.no_views, command=command)
    if page.runs or not out.exists():  # a page without a run takes no other's place
        write_page(page, out)
        count = sum(map(len, page.runs.values()))
        print(f"{known.out}: {count} run{'' if count == 1 else 's'}")
    if problems:  # the page has them too
        raise InputError("\n".join(problems.values()))
    return 0


def _bench(known: argparse.Namespace, rest: list[str]) -> int:
    from vergence.command.bench import read_order

    one_of("--compile", known.compile, COMPILE)
    for name, low in (("steps", 1), ("warmup", 1), ("rounds", 1), ("pictures", 12)):
        if getattr(known, name) is not None:
            at_least(f"--{name}", getattr(known, name), low)
    order = read_order(known, rest)
    out = None if known.out is None else file_to_write("--out", known.out)
    from vergence.bench.record import run_benchmark

    run_benchmark(order, _machine(known), out)
    return 0


def _demo(known: argparse.Namespace, rest: list[str]) -> int:
    from vergence.command.demo import run_demo

    run_demo(known.out, _machine(known))
    return 0


def _machine(known: argparse.Namespace):  # as above
    import torch

    from vergence.fast.compiled import note_if_missing
    from vergence.machine.device import find_device

    if known.threads is not None:
        at_least("--threads", known.threads, 1)
        at_most("--threads", known.threads, MOST_THREADS)
        known.threads_before = torch.get_num_threads()
        torch.set_num_threads(known.threads)
    device = find_device(known.device)
    if device.type == "cpu":
        note_if_missing()
    return device
