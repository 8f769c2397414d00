"""Plausible mistakes of a new user, each with what the answer must say.

python tests/support/mistakes.py docs/mistakes.md    # makes all of them, and writes the page with the real answers
"""

import os
import shlex
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch
from PIL import Image

from commands import SMALL, Answer, vergence, words_of

HOME = "/home/you"
"""Stands on the page for the folder in which the mistakes are made."""

RUN = "runs/byol"
UNFINISHED = "runs/unfinished"
BEGUN = "runs/begun"


class Mistake(NamedTuple):
    """A command line, what was in the user's mind or folder, what the answer must hold, and the exit code."""

    words: str
    about: str
    says: str
    code: int = 2


MISTAKES = {
    "Words": [
        Mistake("byol train", "words in the wrong order", "to train it: vergence train byol"),
        Mistake("trian byol", "a typing error in the command", "did you mean 'train'?"),
        Mistake("eval runs/byol", "a command cut short", "did you mean 'evaluate'?"),
        Mistake("train", "no method", "As in: vergence train byol"),
        Mistake("train byool", "a typing error in the method", "did you mean 'byol'?"),
        Mistake("train mae", "a method that is not here", "known: simclr, moco, contrastive, byol"),
        Mistake("train digits", "pictures where the method belongs", "vergence train byol --data digits"),
        Mistake("train byol cifar10", "pictures without their option", "did you mean --data cifar10?"),
        Mistake("train byol -epochs 3", "one dash", "options are written --epochs"),
        Mistake("train byol epochs=3", "as some other programs have it", "options are written --epochs 3"),
    ],
    "Options": [
        Mistake("train byol --lr 0.1", "the last part of a name", "did you mean '--optimizer.lr'?"),
        Mistake("train byol --batch 64", "the first part of a name", "did you mean '--batch-size'?"),
        Mistake("train byol --epoch 3", "a letter lost", "did you mean '--epochs'?"),
        Mistake("train byol --backbone resnet50", "what others call it", "did you mean '--encoder'?"),
        Mistake("train byol --gpu 0", "what others call it", "did you mean '--device'?"),
        Mistake("train byol --workers 4", "there are none: pictures lie in memory", "did you mean '--threads'?"),
        Mistake("train byol --gpus 2", "what Lightning calls it", "did you mean '--device'?"),
        Mistake("train byol --img-size 64", "what timm calls it", "did you mean '--views.size'?"),
        Mistake("train byol --weights imagenet", "another program's option", "did you mean '--encoder.weights'?"),
        Mistake("train byol --accum-iter 4", "what others call it", "did you mean '--accumulate'?"),
        Mistake("train byol --clip-grad 3", "what timm calls it", "did you mean '--optimizer.clip'?"),
        Mistake("train byol --wandb", "a service", "the log is metrics.jsonl"),
        Mistake("train byol --amp", "mixed precision", "with --precision bfloat16"),
        Mistake("train byol --flip 0", "there are two", "'--views.first.flip' or '--views.second.flip'"),
        Mistake("train byol --temperature 0.1", "BYOL has none", "simclr, moco, contrastive"),
        Mistake("train byol --optimizer.trust-coefficient 0.01", "SGD has none", "lars has"),
        Mistake("train byol --verbose", "no such thing", "--help lists them all"),
        Mistake("train byol --projector 512", "a part is meant", "--projector.hidden"),
        Mistake("train byol --seed", "no value", "as in --seed VALUE"),
        Mistake("probe runs/byol --label 10", "a letter lost", "did you mean '--labels'?"),
        Mistake("report runs/byol --no-view", "a letter lost", "did you mean '--no-views'?"),
        Mistake("train byol --out ''", "a variable of the shell that is not set", "is a variable not set?"),
    ],
    "Values": [
        Mistake("train byol --epochs 0.5", "half an epoch", "--epochs: expected a whole number"),
        Mistake("train byol --epochs -1", "less than nothing", "must be at least 0"),
        Mistake("train byol --optimizer.lr 0,1", "a decimal comma", "expected a number, not '0,1'"),
        Mistake("train byol --optimizer LARS", "in capitals", "did you mean 'lars'?"),
        Mistake("train byol --views strong", "no such views", "known: blog, byol, raft-code, simclr"),
        Mistake("train byol --encoder resnet-18", "nearly the name", "did you mean 'resnet18'?"),
        Mistake("train byol --encoder resnet18.a1_in1k", "with pretrained weights", "names pretrained weights"),
        Mistake("train byol --encoder dinov2", "a family", "did you mean 'vit_small_patch14_dinov2', with random"),
        Mistake("train byol --encoder ./weights.pth", "a file", "but a place; name a model, such as resnet18"),
        Mistake("train byol --precision fp16", "not one of the three", "known: bfloat16, float16, float32"),
        Mistake("train byol --accumulate 3", "parts that are not equal", "choose a number that divides --batch-size"),
        Mistake("train byol --encoder.pool cls", "a ResNet", "--encoder.pool: 'test_resnet' has no class token"),
        Mistake("train byol --encoder vgg11 --encoder.drop-path 0.1", "a network without", "has no drop path"),
        Mistake("train byol --schedule-epochs 5 --epochs 10", "they contradict", "cannot be fewer than --epochs"),
        Mistake("train byol --batch-size 5000", "more than there is", "choose a smaller one"),
        Mistake("train byol --device gpu", "no name of a device", "use auto, cpu, cuda or cuda:N"),
        Mistake("train byol --device cuda", "a machine without a GPU", "use --device cpu"),
        Mistake("probe runs/byol --labels ten", "a number in words", "a share of each class such as 10%, or a number"),
        Mistake("probe runs/byol --labels 1%", "a share of few pictures", "the least share is"),
        Mistake("finetune runs/byol --labels 50", "more than there are", "pictures to fit on"),
        Mistake("evaluate runs/byol --probes svm", "no such probe", "known: knn, linear, linear-raft, logistic"),
    ],
    "Pictures": [
        Mistake("train byol --data mnist", "a data set that is not here", "or a folder such as ./pictures"),
        Mistake("train byol --data CIFAR10", "in capitals", "did you mean 'cifar10'?"),
        Mistake("train byol --data cat.png", "a picture, not its folder", "name its folder"),
        Mistake("train byol --data ./nowhere", "a folder that is not there", "there is no folder"),
        Mistake("train byol --data ./empty", "an empty folder", "no pictures: found 0 folders"),
        Mistake("train byol --data ./phone", "photographs in HEIC", "found 0 folders, 3 other files (3 .heic)"),
        Mistake("train byol --data ./vehicles", "a split's name as a class", "rename it if it is a class"),
        Mistake("train byol --data ./few", "three pictures", "--batch-size: 128 is more than the 3 pictures"),
        Mistake("train byol --data cifar10 --data-dir ./nowhere", "a wrong path", "there is no data folder nowhere"),
        Mistake("train byol --data cifar10", "no files and no network", "--data-dir", 4),
        Mistake("train byol --data folder", "a word of the help", "a folder of pictures is given by its path"),
        Mistake("similar ./few ./few", "pictures where embeddings belong", "embeddings are read from such files"),
        Mistake("train byol --data https://example.com/a.zip", "an address", "nothing is fetched from there"),
        Mistake("train byol --data ./few --out few/run", "a run among its own pictures", "choose an --out elsewhere"),
    ],
    "Runs and files": [
        Mistake("train --config run.yaml", "a configuration in YAML", "YAML is not read"),
        Mistake(f"train --config {RUN}/summary.json", "another file of a run", "give the run.json beside it"),
        Mistake(f"report {RUN} --out {RUN}", "a folder where a page belongs", "is a folder; name a file in it"),
        Mistake("views --out views.jpg", "another kind of picture", "call it views.png"),
        Mistake(f"export {RUN} --out net", "a file without a suffix", "end it in .safetensors (safetensors), .onnx"),
        Mistake(
            f"export {RUN} --format onnx --out net.pth", "another program's suffix", "call a file of onnx net.onnx"
        ),
        Mistake(f"export {RUN} --out cat.ts --format tflite", "no such format", "known: hf, onnx, safetensors"),
        Mistake(
            f"export {RUN} --format hf --out {RUN}", "into the run itself", "belongs to a run; choose another name"
        ),
        Mistake("export runs --out net.ts", "the folder above", "holds neither a run.json nor"),
        Mistake("train --config few", "a folder where a file belongs", "give a file such as the run.json of a run"),
        Mistake("train byol --config runs/byol/run.json", "a method and a configuration", "leave out the method"),
        Mistake("train --resume", "without saying which run", "--config FOLDER/run.json --out FOLDER --resume"),
        Mistake("train byol --resume runs/byol", "--resume takes no folder", "a run's folder with --out"),
        Mistake(f"train byol --out {RUN} --seed 9", "a folder with another run", "choose another --out"),
        Mistake(
            f"train --config {UNFINISHED}/run.json --out {UNFINISHED}",
            "a run that was cut off",
            "add --resume to go on",
        ),
        Mistake(
            f"train --config {RUN}/run.json --out {UNFINISHED} --resume --epochs 9", "more epochs", "epochs: 1 -> 9"
        ),
        Mistake("train byol --out notes.txt", "a file in the way", "choose another folder with --out", 4),
        Mistake("evaluate runs", "the folder above", "no run there (no run.json), but 3 in it, such as"),
        Mistake("evaluate byol", "a method, not a folder", "give the folder that training named"),
        Mistake(f"evaluate {BEGUN}", "before the first checkpoint", "no checkpoint yet; train it first"),
        Mistake(
            "evaluate moved/byol", "pictures that lie elsewhere now", "say where they lie now, as in --data ./pictures"
        ),
        Mistake("diagnose", "no model", "the following arguments are required: model"),
        Mistake(f"diagnose {RUN} {RUN}", "a second model as pictures", "a second model is given with --beside"),
        Mistake(f"diagnose {RUN} --views strong", "no such views", "known: blog, byol, raft-code, simclr"),
        Mistake("report empty", "a folder without runs", "no run there"),
        Mistake(f"report {BEGUN}", "a run that is not finished", "go on with: vergence train --config"),
        Mistake("reproduce byol", "a method, not a document", "to train it: vergence train byol"),
        Mistake("reproduce blog --scale tiny", "no such scale", "known: full, overnight, short, smoke"),
    ],
}


def prepare(folder: Path) -> None:
    """What lies in the folder in which the mistakes are made."""
    chance = np.random.default_rng(0)

    def picture(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(chance.integers(0, 256, (16, 16, 3), np.uint8)).save(path)

    picture(folder / "cat.png")
    for name in ("Boat", "Train"):
        picture(folder / "vehicles" / name / "one.png")
    (folder / "phone").mkdir()
    for i in range(3):
        picture(folder / "few" / f"{i}.png")
        (folder / "phone" / f"IMG_{i}.HEIC").touch()
    (folder / "empty").mkdir()
    (folder / "notes.txt").write_text("buy milk\n")
    (folder / "run.yaml").write_text("method: byol\nepochs: 3\n")
    assert vergence("train", "byol", "--out", folder / RUN, *words_of(SMALL | {"epochs": 1})).code == 0
    shutil.copytree(folder / RUN, folder / UNFINISHED)
    (folder / UNFINISHED / "summary.json").unlink()
    for i in range(6):
        picture(folder / "flowers" / f"class{i % 2}" / f"{i}.png")
    of_flowers = words_of(SMALL | {"subset": "none", "epochs": 1, "batch-size": 4})
    with mock.patch.dict(os.environ, {"VERGENCE_CACHE": str(folder / "cache")}):
        answer = vergence(
            "train", "byol", "--data", folder / "flowers", "--out", folder / "moved" / "byol", *of_flowers
        )
    assert answer.code == 0, answer.err
    (folder / "flowers").rename(folder / "garden")
    (folder / BEGUN).mkdir()
    shutil.copy(folder / RUN / "run.json", folder / BEGUN)


def no_network(*_: object, **__: object) -> None:
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def make(mistake: Mistake, folder: Path) -> Answer:
    """Make the mistake in the folder, on a machine without GPU and network."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        with (
            mock.patch.object(torch.cuda, "is_available", return_value=False),
            mock.patch.object(socket, "getaddrinfo", no_network),
            mock.patch.dict(os.environ, {"VERGENCE_CACHE": str(folder / "cache")}),
        ):
            os.environ.pop("VERGENCE_DATA_DIR", None)
            return vergence(*shlex.split(mistake.words))
    finally:
        os.chdir(before)
        for other in {*(folder / "runs").iterdir()} - {folder / name for name in (RUN, UNFINISHED, BEGUN)}:
            shutil.rmtree(other)  # of a run that was refused when its pictures were seen


def page(folder: Path) -> str:
    """The page, with the answers of now."""
    count = sum(map(len, MISTAKES.values()))
    parts = [
        "# Mistakes, and what Vergence answers\n",
        f"{count} plausible mistakes, made for real: `tests/support/mistakes.py` lists them,\n"
        "`tests/command/test_mistakes.py` makes them, and `python tests/support/mistakes.py docs/mistakes.md` writes\n"
        "this page. Each is answered by one line that says what is wrong and what to do, and by the exit code:\n"
        "2 where the input is to be mended, 4 where the machine is.\n",
    ]
    for heading, mistakes in MISTAKES.items():
        parts.append(f"## {heading}\n")
        for mistake in mistakes:
            answer = make(mistake, folder)
            said = answer.err.replace(str(folder.resolve()), HOME).replace(str(folder), HOME)
            parts.append(f"{mistake.about[0].upper()}{mistake.about[1:]}:\n")
            parts.append(f"```console\n$ vergence {mistake.words}\n{said}```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        prepare(Path(work))
        Path(sys.argv[1]).write_text(page(Path(work)))
