"""Configurations: strict both ways, one key for one meaning, and the command line's way into them."""

import dataclasses
import enum
import functools
import json
import os
import random
import re
import typing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path, PurePath

import numpy as np
import pytest
import torch

from configurations import BYOL, DATA, SLOTS, WHOLE, WRONG, allowed, altered, leaves, takes_numbers, with_value
from repository import GOLDEN
from soak import count, times
from vergence import config as c
from vergence import presets
from vergence.command import options
from vergence.command.commands import Train
from vergence.command.handlers import STUDIES
from vergence.command.parser import COMMANDS
from vergence.config import schema, suggest
from vergence.config.marks import Place
from vergence.config.schema import canonical, from_dict, members, plain, to_dict
from vergence.config.spelling import closest, nearest, typing_errors
from vergence.errors import InputError
from vergence.files.run_folder import read_json, read_run
from vergence.metrics.table import PROBES
from vergence.presets import NAMES, PRESETS, method_named, methods, preset

METHODS = methods()

COVERING = [run for _, run in SLOTS]


def others(annotation, value):
    """Candidates for another value of the same type."""
    inner, _ = plain(annotation)
    arguments = typing.get_args(inner)
    if typing.get_origin(inner) is typing.Literal:
        return [choice for choice in arguments if choice != value]
    if value is None:
        return [1, 7, 30, 64, "x"]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, tuple):
        return [[*value[:i], v * factor, *value[i + 1 :]] for i, v in enumerate(value) for factor in (0.9, 1.1)] or [
            ["a"]
        ]
    if isinstance(value, str):
        return [f"{value}x", "1,2,3", "1,2"]  # the last two for those that hold numbers
    return [value + 1, value / 2 if isinstance(value, float) else value // 2]


def refused(cls, data):
    with pytest.raises(InputError) as caught:
        from_dict(cls, data)
    return str(caught.value).splitlines()


# --- there and back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", DATA.values(), ids=str)
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_of_every_method_survives_json(name, data):
    for method in (*METHODS, *NAMES):
        run = preset(name, method, data)
        again = from_dict(c.Run, json.loads(json.dumps(to_dict(run))))
        assert again == run
        assert again.key == run.key


def test_the_runs_here_cover_every_class_of_the_configuration():
    def classes(annotation):
        for cls in members(annotation):
            yield cls
            for inner in schema.fields(cls).values():
                yield from classes(inner)

    def used(value):
        if dataclasses.is_dataclass(value):
            yield type(value)
            for field in dataclasses.fields(value):
                yield from used(getattr(value, field.name))

    assert {cls for run in COVERING for cls in used(run)} == set(classes(c.Run))


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_is_the_same_everywhere_and_for_ever():
    """Changing this number orphans every run there is: only a change of defaults or fields may."""
    assert c.Run(method=c.SimCLR()).key == "c32752b64e04"
    assert c.Run(method=c.SimCLR()).name == "simclr-digits-c32752b64e04"


def test_where_pictures_lie_is_in_no_key():
    """Until it was left out, it had a part in the key: the second is that of commit 5d07aa5."""
    one, other = (
        replace(BYOL, data=c.Folder(root=root, size=32, crops="square")) for root in ("/data/flowers", "/mnt/b/flowers")
    )
    assert (one.key, one.former_key) == ("81be81ecd9ef", "51f19a0d7a72")
    assert one.key == other.key
    assert one.former_key != other.former_key
    assert one.name == "byol-flowers-81be81ecd9ef"
    for run in COVERING:
        assert (run.former_key == run.key) is not isinstance(run.data, c.Folder)


@pytest.mark.parametrize(
    ("root", "name"),
    [
        ("/data/flowers", "flowers"),
        ("photos of 2024/", "photos-of-2024"),
        ("../Blüten", "Blüten"),
        ("a/\n\x1b[31m", "31m"),
        ("x" * 300, "x" * 24),
        (".", "folder"),
        ("/", "folder"),
        ("a/...", "folder"),
    ],
)
def test_a_run_is_called_after_its_folder_of_pictures(root, name):
    assert c.data_name(c.Folder(root=root)) == name


def test_what_a_run_is_scored_on_is_in_its_key_only_where_it_is_not_the_test_set():
    """CIFAR-10 runs of the first release had no such field: their key, and their files, are still good."""
    run = presets.preset("raft", "byol", c.CIFAR10())
    assert run.key == "463f1cf8d08b"
    old = to_dict(run)
    assert old["data"].pop("scored_on") == "test"
    assert from_dict(c.Run, old) == run
    tuned = dataclasses.replace(run, data=dataclasses.replace(run.data, scored_on="held-out"))
    assert tuned.key != run.key


@pytest.mark.parametrize(("slot", "run"), SLOTS, ids=str)
def test_each_field_changes_the_key(slot, run):
    keys = {run.key: "unchanged"}
    for path, annotation, value in leaves(c.Run, run):
        if path[: len(slot)] != slot:
            continue
        made = []
        for candidate in others(annotation, value):
            try:
                made.append(from_dict(c.Run, altered(run, path, candidate)))
            except InputError:
                continue
        only_choice = typing.get_args(plain(annotation)[0]) == (value,)
        assert made or only_choice, f"no other value found for {'.'.join(path)}"
        if any(isinstance(extra, Place) for extra in plain(annotation)[1]):
            assert {other.key for other in made} == {run.key}
            assert len({other.former_key for other in (*made, run)}) == len(made) + 1
            continue
        for other in (other for other in made if other != run):
            assert other.key not in keys, f"{path} and {keys[other.key]} give one key"
            keys[other.key] = ".".join(path)


FORMER = to_dict(BYOL) | {
    "optimizer": to_dict(c.LARS()) | {"trust": 0.02},
    "horizon": 40,
}
FORMER["method"] = FORMER["method"] | {"target": to_dict(c.MovingAverage()) | {"moves": "before-optimizer"}}
RENAMED = replace(
    BYOL,
    method=c.BYOL(target=c.MovingAverage(update_when="before-optimizer")),
    optimizer=c.LARS(trust_coefficient=0.02),
    schedule_epochs=40,
)
FORMER_NAMES = {
    ("schedule_epochs",): "horizon",
    ("optimizer", "trust_coefficient"): "trust",
    ("method", "target", "update_when"): "moves",
}


def test_files_and_keys_hold_the_former_names_of_renamed_fields():
    """The key is that of the version before they were renamed."""
    assert from_dict(c.Run, FORMER) == RENAMED
    assert json.dumps(to_dict(RENAMED)) == json.dumps(FORMER)
    assert RENAMED.key == "2fcd324f21a4"


def test_renamed_fields_are_read_by_their_own_names_too():
    data = to_dict(RENAMED, stored=False)
    assert not {*FORMER_NAMES.values()} & {*data, *data["optimizer"], *data["method"]["target"]}
    assert from_dict(c.Run, data) == RENAMED


@pytest.mark.parametrize(("path", "former"), FORMER_NAMES.items(), ids=str)
def test_a_renamed_field_under_both_names_is_refused(path, former):
    data = to_dict(RENAMED, stored=False)
    node = functools.reduce(dict.__getitem__, path[:-1], data)
    node[former] = node[path[-1]]
    dotted = ".".join(path)
    assert refused(c.Run, data) == [
        f"configuration: {dotted}: is there as '{former}' too, its former name; leave one of the two out"
    ]


def test_problems_and_differences_name_renamed_fields_by_their_own_names():
    (line,) = refused(c.Run, FORMER | {"horizon": 1.5})
    assert line == "configuration: schedule_epochs: expected a whole number, not 1.5"
    (line,) = refused(c.Run, altered(RENAMED, ("optimizer", "trust_coeficient"), 1))
    assert line.endswith("optimizer.trust_coeficient: unknown key; did you mean 'trust_coefficient'?")


@pytest.mark.parametrize(("one", "other"), [(5, 5.0), (0, -0.0)])
def test_equal_numbers_are_one_configuration(one, other):
    read = [from_dict(c.Run, altered(BYOL, ("optimizer", "lr"), lr)) for lr in (one, other)]
    made = [replace(BYOL, optimizer=c.SGD(lr=lr)) for lr in (one, other)]
    assert len({canonical(run) for run in (*read, *made)}) == 1
    assert len({run.key for run in (*read, *made)}) == 1


def leaf_classes():
    """Every configuration class, with its values where it has no default for them."""
    needed = {c.Folder: {"root": "pictures"}, c.Run: {"method": c.BYOL()}}
    found = (cls for cls in vars(c).values() if getattr(cls, "__module__", "") == c.__name__)
    return [(cls, needed.get(cls, {})) for cls in found if dataclasses.is_dataclass(cls) and isinstance(cls, type)]


@pytest.mark.parametrize(("cls", "needed"), leaf_classes(), ids=[cls.__name__ for cls, _ in leaf_classes()])
def test_numbers_and_text_of_numpy_and_torch_are_pythons(cls, needed):
    """Wherever a configuration is made: the same values, of Python's own types, and so the same key."""
    usual = cls(**needed)
    for name, value in ((f.name, getattr(usual, f.name)) for f in dataclasses.fields(cls)):
        alike = {
            int: (np.int64, np.uint32, np.array, torch.tensor),
            float: (np.float64, np.array, lambda v: torch.tensor(v, dtype=torch.float64)),
            str: (np.str_, np.array, PurePath if name == "root" else np.str_),
            tuple: (list, lambda v: np.array(v, dtype=object), lambda v: tuple(map(np.array, v))),
        }
        for of in alike.get(type(value), ()):
            made = getattr(dataclasses.replace(usual, **{name: of(value)}), name)
            assert (type(made), made) == (type(value), value), (name, of)


def test_other_kinds_of_numbers():
    assert c.SGD(lr=np.float32(0.5)) == c.SGD(lr=Fraction(1, 2)) == c.SGD(lr=0.5)
    assert type(c.SGD(lr=1).lr) is float
    assert replace(BYOL, epochs=enum.IntEnum("Length", {"SHORT": 3}).SHORT).key == replace(BYOL, epochs=3).key
    assert from_dict(c.Run, altered(BYOL, ("epochs",), np.int64(3))) == replace(BYOL, epochs=3)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: replace(BYOL, batch_size=64.0), "Run: batch_size: expected a whole number, not 64.0 (float)"),
        (lambda: replace(BYOL, batch_size=np.float64(64)), "Run: batch_size: expected a whole number, not 64.0 (flo"),
        (lambda: replace(BYOL, batch_size="64"), "Run: batch_size: expected a whole number, not '64' (str)"),
        (lambda: replace(BYOL, batch_size=1), "Run: batch_size: must be at least 2, not 1"),
        (lambda: replace(BYOL, epochs=np.bool_(True)), "Run: epochs: expected a whole number, not true (bool"),
        (lambda: replace(BYOL, epochs=np.arange(3)), "Run: epochs: expected a whole number"),
        (lambda: replace(BYOL, epochs=None), "Run: epochs: expected a whole number, not null (NoneType)"),
        (lambda: replace(BYOL, precision="half"), "Run: precision: unknown choice 'half' (str); known: bfloat16"),
        (lambda: replace(BYOL, optimizer="lars"), "Run: optimizer: expected SGD(...) or Adam(...)"),
        (lambda: replace(BYOL, data={"kind": "digits"}), "or Folder(...), not an object (dict)"),
        (lambda: replace(BYOL, method=c.BYOL), "Run: method: expected Supervised(...) or SimCLR(...)"),
        (lambda: replace(BYOL, method=c.BYOL), "RAFT(...) or"),
        (lambda: c.SGD(lr="fast"), "SGD: lr: expected a number, not 'fast' (str)"),
        (lambda: c.SGD(lr=float("nan")), "SGD: lr: expected a finite number, not nan"),
        (lambda: c.View(crop_scale=("a", 1)), "View: crop_scale[0]: expected a number, not 'a' (str)"),
        (lambda: c.View(crop_scale=0.5), "View: crop_scale: expected a list, not 0.5 (float)"),
        (lambda: c.Folder(root=3), "Folder: root: expected text, not 3 (int)"),
    ],
)
def test_what_is_no_configuration_is_refused_where_it_is_made(make, said):
    with pytest.raises(InputError) as caught:
        make()
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_order_of_keys_in_a_file_does_not_matter():
    backwards = dict(reversed(to_dict(BYOL).items()))
    assert from_dict(c.Run, backwards).key == BYOL.key


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "run", [BYOL, c.Run(method=c.MoCo(), data=DATA["stl10"], optimizer=c.LARS())], ids=["byol", "moco"]
)
def test_every_wrong_type_is_named_at_every_field(run):
    for path, annotation, _ in leaves(c.Run, run):
        for wrong in WRONG:
            number = takes_numbers(annotation) and isinstance(wrong, float) and abs(wrong) < 10
            empty = wrong == [] and list in allowed(annotation)
            if number or empty or (type(wrong) in allowed(annotation) and not isinstance(wrong, list)):
                continue
            lines = refused(c.Run, altered(run, path, wrong))
            assert all(line.startswith(f"configuration: {'.'.join(path)}") for line in lines), lines
            assert max(map(len, lines)) < 300


def test_all_problems_at_once():
    data = to_dict(BYOL) | {"epochs": -1, "batch": 3, "precision": "bfloat"}
    data["optimizer"] |= {"lr": -1, "momentum": 2}
    data["method"]["projector"] |= {"hidden": "many"}
    lines = refused(c.Run, data)
    for said in (
        "epochs: must be at least 0, not -1",
        "batch: unknown key; did you mean 'batch_size'?",
        "precision: unknown choice 'bfloat'; did you mean 'bfloat16'?",
        "optimizer.lr: must be at least 0, not -1.0",
        "optimizer.momentum: must lie between 0 and 1, not 2.0",
        "method.projector.hidden: expected a whole number, not 'many'",
    ):
        assert any(line.endswith(said) for line in lines), (said, lines)
    assert len(lines) == 6


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("optimizer", "kind"), "lras", "optimizer: unknown kind 'lras'; did you mean 'lars'?"),
        (("optimizer", "kind"), ["lars"], "optimizer: unknown kind a list; did you mean 'lars'?"),
        (("method", "kind"), None, "top level: no kind"),
        (("method", "target", "decay"), 1.01, "must lie between 0 and 1, not 1.01"),
        (("method", "target", "dekay"), 0.9, "method.target.dekay: unknown key; did you mean 'decay'?"),
        (("seed",), 2**32, "seed: must lie between 0 and 4294967295, not 4294967296"),
        (("views", "mean"), [0.5, 0.5], "views.mean: expected 3 values, not 2"),
        (("views", "std"), [0.2, 0, 0.2], "views.std[1]: must be above 0, not 0.0"),
        (("views", "first", "crop_scale"), [1.0, 0.2], "crop-scale needs 0 < smallest <= largest, not 1, 0.2"),
        (("views", "first", "crop_scale"), [0.2, 1.5], "crop-scale cannot exceed 1, not 1.5"),
        (("views", "second", "blur_sigma"), [0, 2], "blur-sigma needs 0 < smallest"),
        (("schedule_epochs",), 9, "--schedule-epochs (9) cannot be fewer than --epochs (10)"),
        (("schedule", "warmup_epochs"), 10, "--schedule.warmup-epochs (10) leaves nothing of the 10 epochs"),
        (("views", "size"), 65, "views of 65 px from data of 32 px"),
        (("a\nb\x1b[31m",), 1, "a\\nb\\u001b[31m: unknown key"),
    ],
)
def test_says_what_is_wrong(path, value, said):
    (line,) = refused(c.Run, altered(BYOL, path, value))
    assert said.removeprefix("top level: ") in line


@pytest.mark.parametrize("betas", [(0.9, 1.0), (1.5, 0.9), (-0.1, 0.9)])
@pytest.mark.parametrize("optimizer", [c.Adam, c.AdamW])
def test_betas_that_torch_would_refuse(optimizer, betas):
    data = altered(replace(BYOL, optimizer=optimizer()), ("optimizer", "betas"), list(betas))
    assert "optimizer.betas[" in refused(c.Run, data)[0]


def test_what_is_missing_is_named():
    assert "method: missing" in refused(c.Run, {})[0]
    assert "data.root: missing" in refused(c.Run, to_dict(BYOL) | {"data": {"kind": "folder"}})[0]


@dataclasses.dataclass(frozen=True)
class _Switch:
    on: bool


@pytest.mark.parametrize("value", [1, 0, "true", None, 1.0])
def test_only_true_and_false_are_booleans(value):
    assert "expected true or false" in refused(_Switch, {"on": value})[0]


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False)])
def test_booleans_on_the_command_line(text, value):
    assert from_dict(_Switch, {"on": schema.Text(text)}).on is value


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (with_value("NaN"), "optimizer.lr: expected a finite number, not nan"),
        (with_value("1e400"), "optimizer.lr: expected a finite number"),
        (with_value("-Infinity"), "optimizer.lr: expected a finite number"),
        (with_value("1" + "0" * 400), "optimizer.lr: expected a finite number"),
        (with_value("1" + "0" * 5000), "not JSON"),
        (with_value("true"), "optimizer.lr: expected a number, not true"),
        (with_value("null"), "optimizer.lr: expected a number, not null"),
        (with_value("0.1, 0.2"), "not JSON"),
        (with_value('0.1, "lr": 0.2'), "key 'lr' stands there twice"),
        (b'{"run": {}, "run": {}}', "key 'run' stands there twice"),
        (with_value(f'"{"x" * 500_000}"'), "optimizer.lr: expected a number, not 'xxx"),
        (b'{"%s": 1, %s' % (b"k" * 500_000, WHOLE[1:].encode()), "unknown key"),
        (b"\xef\xbb\xbf" + WHOLE.encode(), "BOM"),
        (WHOLE.encode("utf-16"), "not JSON"),
        (WHOLE.replace("resnet18", "r\u00e9snet").encode("latin-1").replace(b"\\u00e9", b"\xe9"), "not JSON"),
        (b"", "not JSON"),
        (b"\x00" * 1000, "not JSON"),
        (b"[]", "expected a JSON object, not a list"),
        (b'"run"', "expected a JSON object, not a str"),
        (b'{"run": []}', "expected an object, not a list"),
        (b'{"method": []}', "method: expected an object, not a list"),
        (b'{"method": {"kind": {}}}', "method: unknown kind an object"),
        (b"seed: 1\n", "not JSON"),
        (b"!!python/object/apply:os.system ['true']", "not JSON"),
    ],
    ids=lambda value: value[:40].decode("latin-1") if isinstance(value, bytes) else value[:30],
)
def test_files_that_cannot_be_used(tmp_path, content, said):
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(str(path))) as caught:
        read_run(path)
    (line,) = str(caught.value).splitlines()
    assert said in line
    assert len(line) < 500


@pytest.mark.parametrize("depth", [50, 900, 960, 990, 100_000])
def test_deep_nesting(tmp_path, depth):
    path = tmp_path / "run.json"
    path.write_bytes(with_value("[" * depth + "]" * depth))
    with pytest.raises(InputError):
        read_run(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_run(tmp_path / "none.json")
    with pytest.raises(InputError, match="Is a directory"):
        read_json(tmp_path)


def test_a_file_of_a_hundred_megabytes_is_not_read(tmp_path):
    path = tmp_path / "run.json"
    with open(path, "wb") as file:
        file.truncate(100 << 20)
    assert path.stat().st_size == 100 << 20
    with pytest.raises(InputError, match=r"has more than 1,048,576 bytes; give a file such as the run\.json of a run"):
        read_run(path)


def test_a_pipe_that_nobody_writes_to_is_not_waited_for(tmp_path):
    path = tmp_path / "run.json"
    os.mkfifo(path)
    for file in (path, Path("/dev/zero")):
        with pytest.raises(InputError, match="is no plain file"):
            read_run(file)


def test_a_run_is_read_bare_or_from_run_json(tmp_path):
    path = tmp_path / "run.json"
    for data in (to_dict(BYOL), {"format": 1, "run": to_dict(BYOL)}):
        path.write_text(json.dumps(data))
        assert read_run(path) == BYOL


def test_differences_are_named_by_path():
    one, other = to_dict(BYOL), to_dict(replace(BYOL, epochs=3, optimizer=c.Adam()))
    lines = schema.differences(one, other)
    assert "epochs: 10 -> 3" in lines
    assert 'optimizer.kind: "sgd" -> "adam"' in lines
    assert "optimizer.betas: null -> [0.9, 0.999]" in lines
    assert schema.differences(one, one) == []
    assert schema.differences({"a": {"b": 1}}, {"a": None}) == ['a: {"b": 1} -> null']


# --- typos ------------------------------------------------------------------------------------------------------------


def known(run):
    return options.known(to_dict(run, stored=False))


NAMESPACES = {
    "commands": list(COMMANDS),
    "experiments": list(STUDIES),
    "scales": ["smoke", "short", "full"],
    "views": list(c.VIEWS),
    "schedules": [cls.kind for cls in members(c.Schedule)],
    "probes": list(PROBES),
    "presets": list(PRESETS),
    "methods": [*METHODS, *NAMES],
    "data": list(DATA),
    "optimizers": [cls.kind for cls in members(c.Optimizer)],
    "predictors": [cls.kind for cls in members(c.Predictor)],
    "targets": [cls.kind for cls in members(c.Target)],
    "norms": list(typing.get_args(c.Norm)),
    "keys": list(schema.fields(c.Run)),
    **{f"options of {name}": known(c.Run(method=METHODS[name])) for name in ("raft", "moco")},
}


def edits(name, chance, count):
    """Some of the words one edit away: a letter lost, changed, put in, or two swapped."""
    for _ in range(count):
        i, x = chance.randrange(len(name)), chance.choice("abcdefghijklmnopqrstuvwxyz")
        rest = name[i + 1 :]
        yield chance.choice(
            [name[:i] + rest, name[:i] + x + rest, name[:i] + x + name[i:], name[:i] + rest[:1] + name[i] + rest[1:]]
        )


def typo(name, chance, errors):
    for _ in range(errors):
        name = next(edits(name, chance, 1)) if name else chance.choice("abc")
    return name


@pytest.mark.slow
@pytest.mark.parametrize(("errors", "least"), [(1, 0.95), (2, 0.9), (3, 0.85)])
def test_a_typo_gets_the_name_that_was_meant(errors, least):
    """The very name, not just one as near; measured once: 99.8, 96.0 and 90.5 of 100."""
    chance, answers = random.Random(errors), []
    for names in NAMESPACES.values():
        for name in names * times(5, 50):
            mistyped = typo(name, chance, errors)
            if mistyped.casefold() not in map(str.casefold, names):
                answers.append((name, mistyped, closest(mistyped, names)))
    wrong = [answer for answer in answers if answer[0] != answer[2]]
    assert len(answers) > 900
    assert len(wrong) <= (1 - least) * len(answers), wrong
    count("malformed inputs", len(answers))


@pytest.mark.slow
def test_a_typo_in_one_of_a_thousand_encoders():
    import timm

    names, chance = timm.list_models(), random.Random(0)
    meant = {typo(name, chance, 1): name for name in chance.sample(names, times(40, 400))}
    right = [closest(mistyped, names) == name for mistyped, name in meant.items() if mistyped not in names]
    assert sum(right) >= 0.95 * len(right)
    assert len(names) > 1000


@pytest.mark.parametrize(
    ("a", "b", "errors"),
    [("", "", 0), ("", "abc", 3), ("abc", "abc", 0), ("abc", "acb", 1), ("abc", "cab", 2), ("kitten", "sitting", 3)],
)
def test_typing_errors(a, b, errors):
    assert typing_errors(a, b) == typing_errors(b, a) == errors


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("LARS", ["lars", "sgd"], "lars"),
        ("batch_size", ["batch-size"], "batch-size"),
        ("batch", ["batch-size", "views.size"], "batch-size"),
        ("eval", ["evaluate", "views"], "evaluate"),
        ("lr", ["optimizer.lr"], None),
        ("", ["ab"], None),
        ("x" * 5_000_000, ["x"], None),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_was_meant(name, known, meant):
    assert closest(name, known) == meant


def test_far_from_everything_all_names_are_listed():
    assert nearest("zzzz", ["b", "a"]) == "known: a, b"


# --- options of the command line --------------------------------------------------------------------------------------


BEFORE = c.BYOL(target=c.MovingAverage(update_when="before-optimizer"))


def applied(words, run=BYOL):
    return options.apply(run, options.parse(words.split())[0])


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("", {}),
        ("--epochs 3", {"epochs": 3}),
        ("--epochs=3 --batch-size=32", {"epochs": 3, "batch_size": 32}),
        ("--batch_size 32", {"batch_size": 32}),
        ("--subset 100 --subset none", {"subset": None}),
        ("--schedule-epochs 320", {"schedule_epochs": 320}),
        ("--horizon 320", {"schedule_epochs": 320}),
        ("--horizon 320 --schedule-epochs 30", {"schedule_epochs": 30}),
        ("--optimizer lars --optimizer.trust 0.3", {"optimizer": c.LARS(trust_coefficient=0.3)}),
        ("--optimizer lars --optimizer.trust-coefficient 0.3", {"optimizer": c.LARS(trust_coefficient=0.3)}),
        ("--target.moves before-optimizer", {"method": BEFORE}),
        ("--target.update-when before-optimizer", {"method": BEFORE}),
        (
            "--target copy --target.moves after-optimizer",
            {"method": c.BYOL(target=c.Copy(update_when="after-optimizer"))},
        ),
        ("--optimizer lars --optimizer.lr 0.3", {"optimizer": c.LARS(lr=0.3)}),
        ("--optimizer.lr 0.3 --optimizer lars", {"optimizer": c.LARS(lr=0.3)}),
        ("--optimizer.lr 1 --optimizer sgd", {"optimizer": c.SGD(lr=1.0)}),
        ("--optimizer adam --optimizer.betas 0.8,0.99", {"optimizer": c.Adam(betas=(0.8, 0.99))}),
        ("--optimizer.layers encoder.layer1,projector", {"optimizer": c.SGD(layers=("encoder.layer1", "projector"))}),
        ("--optimizer.layers none", {"optimizer": c.SGD()}),
        ("--optimizer.layers=", {"optimizer": c.SGD()}),
        ("--schedule constant --schedule.warmup-epochs 2", {"schedule": c.Constant(warmup_epochs=2.0)}),
        ("--projector.norm layer", {"method": c.BYOL(projector=c.Projector(norm="layer"))}),
        ("--method.projector.norm layer", {"method": c.BYOL(projector=c.Projector(norm="layer"))}),
        ("--projector.norm none", {"method": c.BYOL(projector=c.Projector(norm="none"))}),
        ("--predictor linear-identity", {"method": c.BYOL(predictor=c.LinearIdentityPredictor())}),
        ("--predictor none", {"method": c.BYOL(predictor=c.NoPredictor())}),
        ("--predictor mlp", {}),
        ("--target copy --target.start independent", {"method": c.BYOL(target=c.Copy(start="independent"))}),
        ("--distance tangential", {"method": c.BYOL(distance="tangential")}),
        ("--encoder resnet50", {"encoder": c.Encoder(name="resnet50")}),
        ("--encoder.stem cifar --encoder resnet34", {"encoder": c.Encoder(name="resnet34", stem="cifar")}),
        ("--views.second.solarize 0.2", {"views": c.Views(second=c.View(solarize=0.2))}),
        ("--views.first.crop-scale 0.2,1", {"views": c.Views(first=c.View(crop_scale=(0.2, 1.0)))}),
        ("--views.size 16 --views byol", {"views": replace(c.VIEWS["byol"], size=16)}),
        ("--views byol --views.size 16", {"views": replace(c.VIEWS["byol"], size=16)}),
        ("--data.size 64", {"data": c.Digits(size=64)}),
    ],
)
def test_options(words, changes):
    assert applied(words) == replace(BYOL, **changes)


def test_another_view_pipeline_keeps_the_size():
    run = preset("blog", "byol", c.STL10())
    assert applied("--views simclr", run).views == replace(c.VIEWS["simclr"], size=96)


def test_another_member_starts_from_its_own_defaults():
    run = replace(BYOL, optimizer=c.SGD(lr=9.0, weight_decay=1.0))
    assert applied("--optimizer lars", run).optimizer == c.LARS()
    assert applied("--optimizer sgd", run).optimizer == run.optimizer


def test_a_path_is_one_however_it_is_given_and_text_in_json(monkeypatch):
    monkeypatch.setenv("HOME", "/home/you")
    for out in ("~/x", Path("~/x")):
        asked = Train(out=out)
        assert asked.out == Path("/home/you/x")
        assert to_dict(asked)["out"] == "/home/you/x"
    with pytest.raises(InputError, match=r"Train: out: expected a path, not 3 \(int\)"):
        Train(out=3)


def test_words_that_are_no_option_and_options_of_the_command_are_left_to_it():
    words = ["byol", "--out", "x", "--epochs", "-1", "y", "--out=z", "--seed=2", "--resume", "--views"]
    overrides, others = options.parse(words, ["out", "resume"])
    assert overrides == [("epochs", "-1"), ("seed", "2"), ("views", None)]
    assert others == ["byol", "--out", "x", "y", "--out=z", "--resume"]


def test_other_pictures_are_checked_together_with_the_options():
    run = preset("blog", "byol", c.STL10())
    with pytest.raises(InputError, match="views of 96 px from data of 32 px"):
        options.apply(run, options.parse(["--data.size", "32"])[0], c.Digits())
    smaller = options.parse(["--data.size", "32", "--views.size", "32"])[0]
    assert options.apply(run, smaller, c.Digits()) == replace(run, data=c.Digits(), views=replace(run.views, size=32))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"channels": "0,1,2"},
            "must be auto, or 1 or 3 whole numbers from 1 on with commas between, not '0,1,2'",
        ),
        ({"channels": "1,2"}, "channels: must be auto, or 1 or 3 whole numbers"),
        ({"channels": "red"}, "channels: must be auto, or 1 or 3 whole numbers"),
        ({"range": "5,1"}, "range: must be auto, full, or 2 rising numbers with commas between, not '5,1'"),
        ({"range": "1,1"}, "range: must be auto, full, or 2 rising"),
        ({"range": "nan,1"}, "range: must be auto, full, or 2 rising"),
        ({"range": "0,inf"}, "range: must be auto, full, or 2 rising"),
        ({"most_pixels": 63}, "most_pixels: must be at least 64, not 63"),
    ],
)
def test_bands_and_ranges_that_are_none_are_refused(settings, message):
    with pytest.raises(InputError) as caught:
        c.Folder(root="a", **settings)
    assert message in str(caught.value)


def test_bands_and_ranges_are_numbers():
    assert (c.Folder(root="a").bands, c.Folder(root="a").span) == ((), None)
    assert c.Folder(root="a", range="full").span is None
    folder = c.Folder(root="a", channels="4,3,2", range="-1000,400.5")
    assert (folder.bands, folder.span) == ((4, 3, 2), (-1000.0, 400.5))


NEW = ("auto", "auto", "first", 1 << 26)  # channels, range, pages, most pixels


@pytest.mark.parametrize(
    ("before", "asked", "after"),
    [
        (
            c.Folder(root="a", size=32, bad_images="skip"),
            c.Folder(root="b"),
            ("b", (), 32, "whole", None, "auto", False, *NEW, "skip"),
        ),
        (
            c.Folder(root="a", crops="square", keep=50),
            c.Folder(root="b"),
            ("b", (), 96, "square", 50, "auto", False, *NEW, "fail"),
        ),
        (c.STL10(size=64, fold=3, pretrain="train"), c.STL10(), (64, "train", 3)),
        (c.CIFAR10(size=96, scored_on="held-out"), c.CIFAR10(), (96, "held-out")),
        (c.Digits(size=16), c.CIFAR10(), (16, "test")),
        (
            c.CIFAR10(size=48, scored_on="held-out"),
            c.Folder(root="b"),
            ("b", (), 48, "whole", None, "auto", False, *NEW, "fail"),
        ),
    ],
)
def test_other_pictures_change_nothing_that_was_not_asked_for(before, asked, after):
    """Of one kind only where they lie; of another all but the size, as it has nothing else in common."""
    run = replace(BYOL, data=before, views=c.Views(size=16, order="folded"), epochs=3)
    changed = options.apply(run, [], asked)
    assert dataclasses.astuple(changed.data) == after
    assert type(changed.data) is type(asked)
    assert replace(changed, data=before) == run


def test_named_views_change_the_two_views_and_nothing_beside_them():
    views = c.Views(size=16, mean=(0.5, 0.5, 0.5), std=(0.3, 0.3, 0.3), order="folded")
    changed = applied("--views byol", replace(BYOL, views=views)).views
    assert changed == replace(views, first=c.VIEWS["byol"].first, second=c.VIEWS["byol"].second)
    rest = {(v.size, v.mean, v.std, v.order) for v in c.VIEWS.values()}
    assert len(rest) == 1  # or a name would mean more than the two views


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--epoch 3", "--epoch: unknown option; did you mean '--epochs'?"),
        ("--projector.nrom layer", "did you mean '--projector.norm'?"),
        ("--optimizer.trust-coefficient 1", "--optimizer.trust-coefficient: sgd has no such option; lars has"),
        ("--optimizer.trust 1", "--optimizer.trust: sgd has no such option; lars has"),
        ("--optimizer.kind lars", "--optimizer.kind: unknown option"),
        ("--epochs.x 1", "--epochs.x: unknown option"),
        ("--optimizer lras", "--optimizer: unknown choice 'lras'; did you mean 'lars'?"),
        ("--views blogs", "--views: unknown choice 'blogs'; did you mean 'blog'?"),
        ("--projector layer", "--projector: set its parts: --projector.layers"),
        ("--projector.norm bathc", "--projector.norm: unknown choice 'bathc'; did you mean 'batch'?"),
        ("--horizon 3.0", "--schedule-epochs: expected a whole number, not '3.0'"),
        ("--target.moves sometimes", "--target.update-when: unknown choice 'sometimes'; known: after-optimizer"),
        ("--schedule-epoch 3", "did you mean '--schedule-epochs'?"),
        ("--horizn 3", "did you mean '--schedule-epochs'?"),
        ("--epochs 3.0", "--epochs: expected a whole number, not '3.0'"),
        ("--epochs none", "epochs: expected a whole number, not 'none'"),
        ("--optimizer.lr nan", "--optimizer.lr: expected a finite number"),
        ("--optimizer.lr fast", "optimizer.lr: expected a number, not 'fast'"),
        ("--views.first.crop-scale 0.2", "expected 2 values, not 1"),
        ("--views.first.crop-scale 0.2,,1", "expected 2 values, not 3"),
        ("--views.first.crop-scale 1,0.2", "crop-scale needs 0 < smallest <= largest"),
        ("--epochs", "--epochs: a value is missing"),
        ("--epochs --seed 1", "--epochs: a value is missing"),
        ("-- 3", "unexpected argument '--'"),
    ],
)
def test_options_that_cannot_be_used(words, said):
    with pytest.raises(InputError) as caught:
        applied(words)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lr", "did you mean '--optimizer.lr'?"),
        ("weight_decay", "did you mean '--optimizer.weight-decay'?"),
        ("hidden", "did you mean '--projector.hidden' or '--predictor.hidden'?"),
        ("warmup", "did you mean '--schedule.warmup-epochs'?"),
        ("backbone", "did you mean '--encoder'?"),
        ("GPU", "did you mean '--device'?"),
        ("workers", "did you mean '--threads'?"),
        ("output", "did you mean '--out'?"),
        ("log", "did you mean '--log-every'?"),
        ("verbose", "unknown option; --help lists them all"),
        ("temperature", "byol has no such option; simclr, moco, contrastive, nnclr, swav, dino have"),
        ("optimizer.trust", "sgd has no such option; lars has"),
        ("optimizer.trust-coefficient", "sgd has no such option; lars has"),
        ("moves", "did you mean '--target.update-when'?"),
        ("schedule.warmup", "did you mean '--schedule.warmup-epochs'?"),
        ("verbose=", "unknown option; --help lists them all"),
        ("devices", "did you mean '--device'?"),
        ("img_size", "did you mean '--views.size'?"),
        ("num-classes", "unknown option; classes are those of the folders; nothing asks for their number"),
        ("seed_everything", "did you mean '--seed'?"),
    ],
)
def test_an_option_is_found_wherever_it_stands(name, said):
    with pytest.raises(InputError) as caught:
        options.apply(BYOL, options.parse([f"--{name}"])[0], beside=("out", "device", "threads", "log-every"))
    assert str(caught.value).endswith(said)


@pytest.mark.parametrize("name", suggest.INSTEAD)
def test_what_is_done_otherwise_is_said_in_a_clause(name):
    with pytest.raises(InputError) as caught:
        options.apply(BYOL, options.parse([f"--{name}", "x"])[0])
    (line,) = str(caught.value).splitlines()
    assert line == f"--{name}: unknown option; {suggest.INSTEAD[name]}"
    named = {word.strip(",;:") for word in line.partition(";")[2].split() if word.startswith("--")}
    beside = ("--config", "--out", "--resume", "--online", "--data")
    assert named <= {f"--{option}" for option in known(BYOL)} | {*beside}


def test_views_may_be_twice_as_large_as_the_data():
    assert replace(BYOL, data=c.Digits(size=16), views=c.Views(size=32)).views.size == 32
    with pytest.raises(ValueError, match="views of 33 px from data of 16 px"):
        replace(BYOL, data=c.Digits(size=16), views=c.Views(size=33))


def test_a_range_may_be_one_value():
    view = c.View(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), blur_sigma=(0.5, 0.5))
    assert (view.crop_scale, view.blur_sigma) == ((1.0, 1.0), (0.5, 0.5))


def test_of_many_options_that_are_meant_three_are_named():
    assert suggest.option("at", ["a.at", "b.at"]) == "did you mean '--a.at' or '--b.at'?"
    listed = "did you mean '--a.at' or '--b.at' or '--c.at'?"
    assert suggest.option("at", ["a.at", "b.at", "c.at", "d.at"]) == listed


def test_what_other_programs_call_an_option_is_one_of_ours():
    ours = {*known(replace(BYOL, optimizer=c.LARS())), *known(BYOL), *known(c.Run(method=c.Supervised()))}
    assert set(suggest.ELSEWHERE.values()) <= ours | {"out", "device", "threads", "log-every", "save-every"}
    assert not {*suggest.ELSEWHERE, *suggest.INSTEAD} & ours
    assert not ours & suggest.ELSEWHERE.keys()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("digits", "that is a data set, as in: vergence train byol --data digits"),
        ("STL10", "that is a data set, as in: vergence train byol --data stl10"),
        *((name, "a run is repeated with --config RUN.JSON; ") for name in ("a/b", "run.json", "x.yaml", "x.yml")),
        ("bylo", "did you mean 'byol'?"),
        ("raft-lq", "did you mean 'RAFT-LP'?"),
        ("", "known: byol, moco, and names of the paper such as RAFT-LP"),
    ],
)
def test_what_is_no_method_is_answered_by_what_it_is(name, said):
    assert suggest.method(name, ["byol", "moco"], ["RAFT-LP"]).startswith(said)


def test_a_horizon_may_end_with_the_run_and_not_before():
    assert replace(BYOL, epochs=10, schedule_epochs=10).schedule_epochs == 10
    with pytest.raises(ValueError, match=r"--schedule-epochs \(9\) cannot be fewer than --epochs \(10\)"):
        replace(BYOL, epochs=10, schedule_epochs=9)


def test_a_path_is_answered_where_a_command_takes_both_pictures_and_a_folder():
    both = "pictures are given with --data, a run's folder with --out"
    assert suggest.argument("a/b", "vergence train", ["--data", "--out"]) == both
    assert suggest.argument("a/b", "vergence report", ["--out"]) == "see vergence report --help"


def test_of_names_that_read_alike_the_first_is_meant():
    assert closest("a-c", ["a_b", "a-b"]) == closest("a-c", ["a-b", "a_b"]) == "a-b"


def test_two_letters_are_enough_to_be_understood():
    assert closest("le", ["lr", "momentum"]) == "lr"  # by the typing error alone: half of it is another word
    assert suggest.argument("--ou", "vergence train", ["--out", "-h"]) == "did you mean '--out'?"
    assert suggest.argument("--le", "vergence train", ["--lr", "-h"]) == "did you mean '--lr'?"
    assert suggest.argument("--zzz", "vergence train", ["--out", "-h"]) == "see vergence train --help"


def test_a_value_is_said_in_eighty_letters():
    assert schema.said("x" * 81) == f"'{'x' * 80}'"
    assert schema.said(10**90) == "1" + "0" * 79
    assert (schema.said({}), schema.said([1]), schema.said(None)) == ("an object", "a list", "null")


def test_a_configuration_may_hold_one_that_is_built_already():
    """As Python code gives it: a part as an object among JSON values."""
    data = to_dict(BYOL)
    assert from_dict(c.Run, data | {"encoder": BYOL.encoder}) == BYOL


def test_every_unknown_option_is_named():
    with pytest.raises(InputError) as caught:
        applied("--epoch 3 --sede 1 --optimizer.rl 2")
    assert len(str(caught.value).splitlines()) == 3


def test_the_help_is_what_it_was():
    """Where it should say something else: vergence/options.py's describe() is to be written there anew, and read."""
    assert options.describe() + "\n" == (GOLDEN / "options.txt").read_text()


def test_the_help_mentions_every_option():
    mentioned = set(re.findall(r"--([a-z0-9.-]+)", options.describe()))
    for run in COVERING:
        for path, _, _ in leaves(c.Run, run):
            name = ".".join(path).removeprefix("method.").replace("_", "-")
            assert name in mentioned
        for slot in ("optimizer", "schedule", "data", "views", "encoder"):
            assert slot in mentioned
    for kind in (cls.kind for slot in (c.Method, c.Predictor, c.Target, c.Optimizer, c.Data) for cls in members(slot)):
        assert kind in options.describe()


def test_data_by_name_or_path(tmp_path, monkeypatch):
    assert options.data_named(("stl10",)) == c.STL10()
    assert options.data_named((str(tmp_path),)) == c.Folder(root=str(tmp_path.resolve()))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    assert options.data_named(("pictures",)) == c.Folder(root=str(tmp_path.resolve() / "pictures"))


@pytest.mark.parametrize("text", ["cifar", "x" * 300, "~nobody-of-this-name/pictures", "folder", ""])
def test_data_that_is_neither(text):
    with pytest.raises(InputError, match="--data"):
        options.data_named((text,))


# --- presets ----------------------------------------------------------------------------------------------------------


def at(run, path):
    for part in path.split("."):
        run = getattr(run, part)
    return run


BLOG = {
    "optimizer": c.SGD(lr=0.8, momentum=0.9, weight_decay=1e-4),
    "method.projector.hidden": 512,
    "method.projector.out": 128,
    "method.projector.norm": "batch",
    "method.projector.norm_at": "hidden",
    "method.predictor": c.MLPPredictor(hidden=512, norm="batch", norm_at="hidden"),
    "method.target.decay": 0.996,
    "method.target.decay_schedule": "cosine",
    "method.target.update_when": "before-optimizer",
    "schedule": c.Cosine(),
    "epochs": 10,
    "schedule_epochs": 320,
    "batch_size": 256,
    "norm_views": "separately",
    "encoder": c.Encoder(name="resnet18", stem="imagenet", norm="batch"),
    "views.size": 96,
    "views.first.crop_scale": (0.2, 1.0),
    "views.first.blur_sigma": (0.1, 2.0),
}
RAFT = {
    "data": c.CIFAR10(size=96),
    "views": replace(c.VIEWS["byol"], size=96),
    "encoder": c.Encoder(name="resnet18"),
    "method.projector": c.Projector(layers=2, hidden=512, out=128, norm="batch", norm_at="hidden"),
    "method.predictor": c.MLPPredictor(layers=2, hidden=512, norm="none"),
    "method.target.decay": 0.996,
    "method.target.decay_schedule": "constant",
    "optimizer": c.Adam(lr=3e-4),
    "schedule": c.Constant(),
    "batch_size": 128,
    "epochs": 300,
}
RAFT_CODE = {
    "data": c.CIFAR10(size=32),
    "views.size": 32,
    "views.first.blur": 0.0,
    "views.second.blur": 0.0,
    "encoder": c.Encoder(name="resnet18", stem="cifar"),
    "method.projector": c.Projector(layers=2, hidden=512, out=256, norm="batch"),
    "method.predictor": c.MLPPredictor(layers=2, hidden=512, norm="batch"),
    "method.target.start": "independent",
    "method.target.batch_norm": "batch",
    "method.target.decay_schedule": "constant",
    "optimizer": c.Adam(lr=3e-4),
    "batch_size": 1024,
}
VIT = {
    "data.size": 64,
    "views.size": 64,
    "encoder": c.Encoder(name="vit_tiny_patch16_224", drop_path=0.1),
    "optimizer.kind": "adamw",
    "optimizer.lr": 5e-4,
    "optimizer.weight_decay": 0.04,
    "optimizer.weight_decay_end": 0.4,
    "optimizer.decay": "matrices",
    "optimizer.clip": 3.0,
    "schedule": c.Cosine(warmup_epochs=10.0, warmup_from="first-share"),
    "epochs": 100,
    "batch_size": 256,
}
SIMSIAM = {
    "encoder": c.Encoder(name="resnet18", stem="cifar"),
    "method.projector": c.Projector(layers=2, hidden=2048, out=2048, norm_at="every", affine="hidden"),
    "method.predictor": c.MLPPredictor(hidden=512),
    "method.target": c.StopGradient(),
    "optimizer": c.SGD(lr=0.06, momentum=0.9, weight_decay=5e-4, predictor_rate="constant"),
    "schedule": c.Cosine(),
    "epochs": 800,
    "batch_size": 512,
    "views.first.blur": 0.0,
    "views.second.blur": 0.0,
}
DIRECTPRED = {
    "encoder": c.Encoder(name="resnet18", stem="cifar"),
    "method.projector": c.Projector(hidden=512, out=128, affine="none"),
    "method.predictor": c.Direct(alpha=0.5, eps=0.01, rho=0.3, every=1),
    "method.target": c.MovingAverage(decay=0.996, decay_schedule="constant"),
    "optimizer": c.SGD(lr=0.03, momentum=0.9, weight_decay=4e-4),
    "schedule": c.Constant(),
    "views": c.VIEWS["simclr"],
    "epochs": 100,
    "batch_size": 128,
}
FACTS = [
    *(("vit", method, c.CIFAR10(), path, value) for method in METHODS for path, value in VIT.items()),
    ("vit", "byol", c.STL10(), "views.size", 96),
    ("vit", "byol", c.Folder(root="x", size=100), "views.size", 112),
    ("vit", "byol", c.Digits(), "views.first.flip", 0.0),
    *(("blog", "byol", c.STL10(), path, value) for path, value in BLOG.items()),
    ("blog", "byol", c.STL10(), "method.scale", 0.5),
    ("blog", "contrastive", c.STL10(), "optimizer.lr", 0.02),
    ("blog", "contrastive", c.STL10(), "method.predictor.norm", "none"),
    ("blog", "contrastive", c.STL10(), "method.projector.norm", "none"),
    ("blog", "moco", c.STL10(), "method.temperature", 0.2),
    ("blog", "moco", c.STL10(), "method.queue", 65536),
    ("blog", "moco", c.STL10(), "method.projector.norm", "none"),
    ("blog", "moco", c.STL10(), "batch_size", 256),
    ("blog", "simclr", c.STL10(), "method.projector.norm_at", "every"),
    ("barlow-twins-paper", "barlow-twins", c.CIFAR10(), "method.scale", 0.1),
    ("barlow-twins-paper", "barlow-twins", c.CIFAR10(), "views.second.solarize", 0.2),
    ("vicreg-paper", "vicreg", c.CIFAR10(), "method.variance", 50.0),
    ("vicreg-paper", "vicreg", c.CIFAR10(), "views.first.solarize", 0.1),
    ("nnclr-paper", "nnclr", c.CIFAR10(), "optimizer.lr", 0.4),
    ("nnclr-paper", "nnclr", c.CIFAR10(), "method.temperature", 0.2),
    ("default", "nnclr", c.CIFAR10(), "method.queue", 4096),
    ("default", "nnclr", c.CIFAR10(), "method.target.kind", "stop-gradient"),
    ("default", "vicreg", c.Digits(), "method.projector.out", 256),
    *(
        ("raft", method, c.CIFAR10(), path, value)
        for method in ("byol", "byol-prime", "raft")
        for path, value in RAFT.items()
    ),
    *(("raft-code", "raft", c.CIFAR10(), path, value) for path, value in RAFT_CODE.items()),
    *(("simsiam-paper", "simsiam", c.CIFAR10(), path, value) for path, value in SIMSIAM.items()),
    *(("directpred-paper", "directpred", c.CIFAR10(), path, value) for path, value in DIRECTPRED.items()),
    ("directpred-paper", "directpred", c.STL10(), "encoder.stem", "imagenet"),
    *(("default", "simsiam", data, "method.target", c.StopGradient()) for data in (c.Digits(), c.CIFAR10())),
    ("default", "simsiam", c.CIFAR10(), "method", c.SimSiam()),
    ("default", "simsiam", c.CIFAR10(), "optimizer", c.SGD(lr=0.06, weight_decay=5e-4, predictor_rate="constant")),
    ("default", "simsiam", c.Digits(), "method.projector.hidden", 512),
    ("default", "simsiam", c.Digits(), "method.predictor.hidden", 128),
    ("default", "directpred", c.CIFAR10(), "optimizer.lr", 0.03),
    ("default", "directpred", c.Digits(), "method.target.decay", 0.99),
    *((name, "simsiam", c.CIFAR10(), "method.target", c.StopGradient()) for name in ("blog", "raft", "raft-code")),
    *((name, "directpred", c.CIFAR10(), "method.predictor", c.Direct()) for name in ("blog", "raft", "raft-code")),
]


@pytest.mark.parametrize(("name", "method", "data", "path", "value"), FACTS, ids=lambda value: str(value)[:24])
def test_a_preset_says_what_its_document_says(name, method, data, path, value):
    assert at(preset(name, method, data), path) == value


def test_the_names_are_those_of_the_papers_table():
    predictors = {
        "MLPP": c.MLPPredictor,
        "LP": c.LinearPredictor,
        "LPI": c.LinearIdentityPredictor,
        "NP": c.NoPredictor,
    }
    objectives = {"BYOL": c.BYOL, "BYOL'": c.BYOLPrime, "RAFT": c.RAFT}
    table = {f"{name}-{short}": (cls, p) for name, cls in objectives.items() for short, p in predictors.items()}
    table |= {f"Tan{name}-LP": (cls, c.LinearPredictor) for name, cls in objectives.items()}
    assert {name: (type(m), type(m.predictor)) for name, m in NAMES.items()} == table
    assert {name for name, m in NAMES.items() if m.distance == "tangential"} == {
        n for n in table if n.startswith("Tan")
    }


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("byol'-lp", "BYOL'-LP"),
        ("BYOLprime-LP", "BYOL'-LP"),
        ("byol-prime-lpi", "BYOL'-LPI"),
        ("BYOL\u2019-NP", "BYOL'-NP"),
        ("tanbyol'-lp", "TanBYOL'-LP"),
        ("raft-mlpp", "RAFT-MLPP"),
    ],
)
def test_names_however_they_are_written(written, meant):
    assert method_named(written) == (NAMES[meant], NAMES[meant].predictor)


@pytest.mark.parametrize("written", ["byol", "BYOL", "Byol-Prime", "RAFT", "MoCo"])
def test_methods_in_any_case(written):
    assert method_named(written) == (METHODS[written.lower()], None)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("method", NAMES)
def test_a_name_of_the_table_keeps_its_predictor_and_distance(name, method):
    run = preset(name, method, c.CIFAR10())
    assert run.method.predictor == NAMES[method].predictor
    assert run.method.distance == NAMES[method].distance
    assert type(run.method) is type(NAMES[method])


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_gives_each_method_all_it_can_hold(name):
    """A method without target or predictor gets none; one that has them keeps its own objective."""
    for method in METHODS.values():
        assert type(PRESETS[name](method, c.CIFAR10()).method) is type(method)


def test_small_heads_for_digits_leave_a_slot_of_ones_own():
    """As where a study takes a protection away."""
    run = presets.default(c.SimSiam(target=c.Shared(), predictor=c.NoPredictor()), c.Digits())
    assert (run.method.target, run.method.predictor) == (c.Shared(), c.NoPredictor())
    assert run.method.projector.out == 512


def test_unknown_presets_and_methods():
    with pytest.raises(InputError, match="did you mean 'raft-code'"):
        preset("raft_code", "byol", c.Digits())
    with pytest.raises(InputError, match="did you mean 'byol'"):
        presets.method_named("byool")


def test_a_class_of_a_slot_has_a_docstring():
    """Its first line is the help of the kind."""

    class Shape(schema.Slot):
        """A shape."""

    with pytest.raises(TypeError, match="Bare: needs a docstring, whose first line is its help"):
        type("Bare", (Shape,), {"kind": "bare"})
    assert Shape.members == {}


def test_texts_and_arrays_of_other_libraries_become_pythons():
    name = type("Name", (str,), {})("resnet18")
    assert type(c.Encoder(name=name).name) is str
    assert c.View(crop_scale=np.array([0.25, 1.0])).crop_scale == (0.25, 1.0)


def test_the_beginning_of_a_models_name_will_do():
    known = ["efficientnet_b0", "efficientnet_b0_gn", "resnet18"]
    assert "did you mean 'efficientnet_b0'?" in suggest.encoder("EfficientNet_b", known)


def test_a_file_of_before_whole_pictures_means_squares():
    """Its run keeps its key, and goes on with the pictures that it had."""
    now = replace(BYOL, data=c.Folder(root="pets", size=32))
    data = schema.to_dict(now)
    assert data["data"]["crops"] == "whole"
    del data["data"]["crops"], data["data"]["keep"]
    before = schema.from_dict(c.Run, data)
    assert before == replace(now, data=c.Folder(root="pets", size=32, crops="square"))
    assert before.key == "81be81ecd9ef"
    assert now.key != before.key
    assert schema.from_dict(c.Run, schema.to_dict(now)) == now
    assert (c.Folder(root="pets").kept, c.Folder(root="pets", keep=100).kept) == (192, 100)


def test_small_photos_get_the_stem_for_them_and_others_do_not() -> None:
    stems = {data.kind: presets.default(c.BYOL(), data).encoder.stem for data in DATA.values()}
    assert [kind for kind, stem in stems.items() if stem == "cifar"] == ["cifar10", "cifar100"]
