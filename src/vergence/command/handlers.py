"""What each command does with its options. torch is imported only once there is work."""

import os
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path

from vergence import config, plugins, presets, register, trackers
from vergence.command import models, options, studies
from vergence.command.arguments import add_options, give_rest, option_names, read_options
from vergence.command.bench import EPILOG, read_order
from vergence.command.checks import file_to_write, no_data_option, none_empty, one_of
from vergence.command.commands import OPTIONS, SETTINGS, Bench, Data, Demo, Evaluate, Report, Train, Views
from vergence.command.machine import machine, place_of, together
from vergence.command.options import Override, data_named
from vergence.command.parser import COMMANDS, parser
from vergence.command.studies import STUDIES
from vergence.config import suggest
from vergence.config.schema import path_of, said
from vergence.errors import InputError, Stopped
from vergence.files.run_folder import RUN, check_output_outside_data, found_again, is_of_run, read_run
from vergence.machine.launch import launched, requeued, start


def dispatch(words: list[str]) -> int:
    """Do what the words of a command ask for; return its exit code."""
    none_empty(words)
    typed = words
    words, files = _split_plugins(words)
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    name = words[0] if words else "--help"
    if not name.startswith("-") and name not in COMMANDS:
        raise InputError(f"unknown command {said(name)}; {suggest.choice(name, COMMANDS)}")
    for path in files:
        plugins.load(path)
    plugins.load_named()
    top, commands = parser()
    for command, cls in OPTIONS.items():
        add_options(commands[command], cls)
    commands["bench"].epilog = EPILOG
    commands["sweep"].epilog = studies.EPILOG
    if name == "train" and {"-h", "--help"} & set(words):
        commands["train"].epilog = options.describe()
    no_data_option(words, name)
    overrides: list[Override] = []
    if name in SETTINGS:
        overrides, words = options.parse(words, ["help", *option_names(OPTIONS[name])])
    known, strange = top.parse_known_args(words)
    if known.command is None:
        top.print_help()
        return 0
    cls = OPTIONS[known.command]
    if strange := give_rest(cls, known, strange):
        takes = [f"--{option}" for option in option_names(cls)]
        meant = suggest.argument(strange[0], commands[known.command].prog, takes)
        raise InputError(f"unexpected argument {said(strange[0])}; {meant}")
    if getattr(known, "data_dir", None) is None:
        known.data_dir = os.environ.get("VERGENCE_DATA_DIR") or None
    asked = read_options(cls, known)
    if (processes := getattr(asked, "processes", 1)) > 1:
        if (place := launched()) is None:
            return start(processes, typed)
        if place.size != processes:
            raise InputError(f"--processes: {processes}, but a launcher has started {place.size}; leave it out")
    if (shared := {"train": _train, "evaluate": _evaluate, **models.SHARED}.get(known.command)) is not None:
        with together() as group:
            return shared(asked, overrides, group)
    handlers = {
        "data": _data,
        "views": _views,
        "reproduce": studies.reproduce,
        "sweep": studies.sweep,
        "report": _report,
        "bench": _bench,
        "demo": _demo,
        **models.HANDLERS,
    }
    return handlers[known.command](asked, overrides)


def _split_plugins(words: list[str]) -> tuple[list[str], list[Path]]:
    """Return the words without `--plugin FILE`, wherever it stands, and the files."""
    rest, files, remaining = [], [], list(words)
    while remaining:
        name, equals, value = (word := remaining.pop(0)).partition("=")
        if name != "--plugin":
            rest.append(word)
        elif equals or remaining:
            files.append(value if equals else remaining.pop(0))
        else:
            raise InputError("--plugin: a file is missing, as in --plugin mine.py")
    try:
        return rest, [path_of(file) for file in files]
    except ValueError as error:
        raise InputError(f"--plugin: {error}") from error


def _run_of(asked: Train, overrides: Sequence[Override]) -> config.Run:
    beside = option_names(Train)
    if asked.config is not None:
        if is_of_run(asked.config.name) and asked.config.name != RUN:
            raise InputError(f"--config: {asked.config} says how a run went; give the {RUN} beside it")
        if asked.preset or asked.method is not None:
            raise InputError("--config says what to run: leave out the method and --preset")
        run = read_run(asked.config)
        if not asked.data:
            pictures = found_again(run.data, asked.config.parent, asked.data_dir)
        else:
            pictures = data_named(asked.data, asked.data_dir)
        return options.apply(run, overrides, pictures, beside)
    if asked.method is None and asked.resume:
        raise InputError("--resume: which run? As in: vergence train --config FOLDER/run.json --out FOLDER --resume")
    if asked.method is None:
        raise InputError(f"which method? As in: vergence train byol; one of {', '.join(presets.methods())}")
    on_cifar10 = ("raft", "raft-code", *presets.PAPERS)
    stands_for = {"blog": "stl10", **dict.fromkeys(on_cifar10, "cifar10")}
    name = asked.preset or "default"
    data = data_named(asked.data or (stands_for.get(name, "digits"),), asked.data_dir)
    return options.apply(presets.preset(name, asked.method, data), overrides, beside=beside)


def _train(asked: Train, overrides: Sequence[Override], group) -> int:  # a Group's type would import torch
    run = models.started(_run_of(asked, overrides), overrides, again=asked.config is not None)
    for name in asked.track:
        one_of("--track", name, sorted(register.TRACKERS), "tracker")
        trackers.require_installed(name)
    from vergence.report import text
    from vergence.report.live import open_view
    from vergence.runs import find_finished, run_training
    from vergence.runs.pictures import kept_in

    with machine(asked) as device:
        where = place_of(asked, device, group)
        group = where.group
        folder = asked.out or Path(group.broadcast_object(lambda: str(kept_in(run, Path("runs"), asked.data_dir))))
        console = text.console()
        summary = group.broadcast_object(lambda: find_finished(run, folder, asked.resume, asked.data_dir))
        if summary is not None:
            console.print(f"{folder}: this run is there, finished")
        if summary is None:
            live = open_view(console, f"{run.method.kind} on {run.data.kind}, {run.encoder.name}")
            try:
                with trackers.tracked(asked.track, folder, live) as reporter:
                    summary = run_training(
                        run, folder, where=where, periods=asked.periods, resume=asked.resume, reporter=reporter
                    )
            except Stopped as error:
                if not group.is_main or error.signal_number != signal.SIGUSR1 or (job := requeued()) is None:
                    raise
                raise Stopped(f"{error}; SLURM starts job {job} again", error.signal_number) from error
        text.print_summary(console, folder, summary)
    return 0


def _evaluate(asked: Evaluate, overrides: Sequence[Override], group) -> int:
    data = data_named(asked.data, asked.data_dir) if asked.data else None
    from vergence.report import text
    from vergence.runs import score

    with machine(asked) as device:
        where = place_of(asked, device, group)
        scores = score(asked.run, data=data, where=where, random=asked.random, probing=asked.probing)
    text.print_scores(text.console(), scores)
    return 0


def _data(asked: Data, overrides: Sequence[Override]) -> int:
    options.only_of_pictures(overrides, "--size, --data.labels, ...", ("size",))
    data = data_named(asked.paths, asked.data_dir)
    run = options.apply(presets.preset("default", "byol", data), overrides, beside=option_names(Data))
    out = None if asked.out is None else file_to_write("--out", asked.out)
    if out is not None:
        check_output_outside_data(run.data, out, asked.data_dir)
    from vergence.data import inspect
    from vergence.report import text
    from vergence.report.inspection import describe, inspection_page
    from vergence.report.page import write_page

    found = inspect(run.data, data_dir=asked.data_dir)
    console = text.console()
    text.print_block(console, describe(found))
    if out is not None:
        options_given = [word for name, value in overrides for word in (f"--{name}", value or "")]
        write_page(inspection_page(found, shlex.join(["vergence", "data", *asked.paths, *options_given])), out)
        console.print(f"page: {asked.out}", soft_wrap=True)
    return 0


def _views(asked: Views, overrides: Sequence[Override]) -> int:
    data = data_named(asked.data or ("digits",), asked.data_dir)
    run = options.apply(presets.preset("default", "byol", data), overrides, beside=option_names(Views))
    out = file_to_write("--out", asked.out)
    if asked.out.suffix.lower() != ".png":
        raise InputError(f"--out: views are drawn as a PNG file; call it {asked.out.with_suffix('.png')}")
    check_output_outside_data(run.data, out, asked.data_dir)
    from vergence.files import durable
    from vergence.report.views import draw_views

    durable.write_file(out, draw_views(run, count=asked.count, data_dir=asked.data_dir))
    local = f" and {run.views.local.count} local crops" if run.views.local.count else ""
    print(f"{asked.out}: {asked.count} pictures, three draws of both views{local} each")
    return 0


def _report(asked: Report, overrides: Sequence[Override]) -> int:
    if bool(asked.runs) == bool(asked.from_):
        raise InputError("give the folders of runs, or --from FILE; as in: vergence report runs/a runs/b")
    if asked.from_ is None and asked.study is not None:
        raise InputError("--study: says which study the results of --from FILE are of; leave it out")
    out = file_to_write("--out", asked.out)
    return _report_again(asked, asked.from_, out) if asked.from_ else _report_runs(asked, out)


def _report_again(asked: Report, file: Path, out: Path) -> int:
    from vergence.report.page import write_page
    from vergence.study import kept, open_study, rebuild

    with kept(file) as (index, root):
        name = asked.study or index["study"]
        if name == "sweep":
            page = rebuild(studies.sweep_again(index["command"]), index, root)
        elif asked.study is None and name not in STUDIES:  # never a file that somebody else's archive names
            raise InputError(f"{file}: results of the study {said(name)}; name its file: --study FILE.py")
        else:
            with open_study(STUDIES.get(name) or name) as study:
                page = rebuild(study, index, root)
    write_page(page, out)
    count = sum(map(len, page.runs.values()))
    print(f"{asked.out}: {page.title}, {count} run{'' if count == 1 else 's'}")
    return 0


def _report_runs(asked: Report, out: Path) -> int:
    from vergence.report.page import runs_page, write_page

    command = shlex.join(["vergence", "report", *map(str, asked.runs)])
    page, problems = runs_page(asked.runs, data_dir=asked.data_dir, show_views=not asked.no_views, command=command)
    if page.runs or not out.exists():  # a page without a run takes no other's place
        write_page(page, out)
        count = sum(map(len, page.runs.values()))
        print(f"{asked.out}: {count} run{'' if count == 1 else 's'}")
    if problems:  # the page has them too
        raise InputError("\n".join(problems.values()))
    return 0


def _bench(asked: Bench, overrides: Sequence[Override]) -> int:
    order = read_order(asked, overrides)
    out = None if asked.out is None else file_to_write("--out", asked.out)
    from vergence.bench.record import run_benchmark

    with machine(asked) as device:
        run_benchmark(order, device, out)
    return 0


def _demo(asked: Demo, overrides: Sequence[Override]) -> int:
    from vergence.command.demo import run_demo

    with machine(asked) as device:
        run_demo(asked.out, device)
    return 0
