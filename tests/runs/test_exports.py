"""Encoders written for other programs: what each format holds, gives and says, and what is refused."""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from PIL import Image
from torch import nn

import vergence as package
from commands import vergence
from small_runs import VARIANTS, run_of
from vergence import config as c
from vergence import register
from vergence.augment import evaluation_view
from vergence.errors import InputError
from vergence.exports import export as exporting
from vergence.exports import formats
from vergence.exports.suffixes import format_of
from vergence.networks.encoders import build_encoder
from vergence.runs import Model, from_weights, load, load_encoder, open_model, run_training

export = exporting.export
ENDS = {"safetensors": ".safetensors", "onnx": ".onnx", "torchscript": ".ts", "torch-export": ".pt2", "hf": ""}
PROGRAMS = ("onnx", "torchscript", "torch-export")
VARIETY = {
    "resnet": c.Encoder(name="test_resnet"),
    "cifar": c.Encoder(name="resnet18", stem="cifar"),
    "group": c.Encoder(name="resnet18", norm="group"),
    "group-ws": c.Encoder(name="resnet18", norm="group-ws"),
    "vit": c.Encoder(name="test_vit", drop_path=0.1),
    "vit, mean": c.Encoder(name="test_vit", pool="mean"),
}
SIZE = 32


def model_of(architecture: c.Encoder, size=SIZE) -> Model:
    """A model with statistics and weights that are not those of its first moment."""
    torch.manual_seed(1)
    encoder = build_encoder(architecture, size)
    with torch.no_grad():
        for value in encoder.parameters():
            value.add_(0.02 * torch.randn_like(value))
        encoder(torch.randn(8, 3, size, size))
    views = replace(c.VIEWS["byol"], size=size, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    return Model(name="a model", encoder=encoder.eval(), dim=encoder.dim, views=views, architecture=architecture)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of one epoch on digits."""
    folder = tmp_path_factory.mktemp("trained") / "byol"
    run_training(run_of(VARIANTS["byol"], epochs=1, subset=40), folder)
    return folder


def same(one, other, pictures):
    with torch.no_grad():
        expected = one(pictures)
        return (other(pictures) - expected).norm() <= 1e-5 * expected.norm()


# --- each format ------------------------------------------------------------------------------------------------------


def check(model, format, folder):
    """Write and open again; programs take any number of pictures."""
    path = folder / f"net{ENDS[format]}"
    done = export(model, path, format=format)
    assert done.format == format
    assert done.difference <= 1e-5
    assert all(file.is_file() for file in done.files)
    again = open_model(path)
    assert (again.dim, again.views.size, again.views.mean) == (model.dim, model.views.size, model.views.mean)
    assert not again.remarks
    for count in (1, 3):
        assert same(model.encoder, again.encoder, torch.randn(count, 3, model.views.size, model.views.size))
    return done


@pytest.mark.parametrize("format", ENDS)
def test_a_run_in_each_format(trained, tmp_path, format):
    done = check(open_model(trained), format, tmp_path)
    assert done.compared == "16 of the run's pictures"
    about = json.loads(done.files[1].read_text())
    assert (about["architecture"], about["num_classes"], about["num_features"]) == ("test_resnet", 0, 96)
    assert about["pretrained_cfg"]["input_size"] == [3, 16, 16]
    own = about["vergence"]
    assert (own["method"]["kind"], own["data"], own["step"]) == ("byol", "digits", load(trained)[2])
    assert own["key"] == load(trained)[0].key
    assert about["vergence"]["encoder"] == {"name": "test_resnet", "stem": "imagenet", "norm": "batch"}


@pytest.mark.wide
@pytest.mark.parametrize("format", ENDS)
@pytest.mark.parametrize("name", VARIETY)
def test_each_encoder_in_each_format(tmp_path, name, format):
    model = model_of(VARIETY[name])
    if format == "hf" and name not in ("resnet", "vit"):
        with pytest.raises(InputError, match=r"--format hf: timm could not load it: its .* has no encoder"):
            export(model, tmp_path / "net", format=format)
        assert not [*tmp_path.iterdir()]
        return
    check(model, format, tmp_path)


def test_weights_have_the_names_of_timm(tmp_path):
    model = model_of(VARIETY["resnet"])
    state = safetensors.torch.load_file(export(model, tmp_path / "net.safetensors").files[0])
    assert state.keys() == timm.create_model("test_resnet", num_classes=0).state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.encoder.state_dict().items())


def test_timm_loads_a_folder_with_another_head(tmp_path):
    model = model_of(VARIETY["vit"])
    export(model, tmp_path / "net", format="hf")
    network = timm.create_model(f"local-dir:{tmp_path / 'net'}", pretrained=True, num_classes=7)
    assert network.get_classifier().out_features == 7
    x = torch.randn(2, 3, SIZE, SIZE)
    network.reset_classifier(0)
    assert same(model.encoder, network.eval(), x)


def test_an_onnx_file_names_its_axes_and_holds_its_weights(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    file = export(model_of(VARIETY["resnet"]), tmp_path / "net.onnx").files[0]
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert (taken.name, taken.shape) == ("pictures", ["batch", 3, SIZE, SIZE])
    assert (given.name, given.shape) == ("representations", ["batch", 96])
    assert {entry.name for entry in tmp_path.iterdir()} == {"net.onnx", "net.json", "net.md"}


def test_large_weights_lie_beside_an_onnx_file(tmp_path, monkeypatch):
    program = pytest.importorskip("torch.onnx._internal.exporter._onnx_program")
    monkeypatch.setattr(program, "_LARGE_MODEL_THRESHOLD", 1000)
    model = model_of(VARIETY["resnet"])
    file = export(model, tmp_path / "net.onnx").files[0]
    assert {entry.name for entry in tmp_path.iterdir()} == {"net.onnx", "net.onnx.data", "net.json", "net.md"}
    assert same(model.encoder, open_model(file).encoder, torch.randn(2, 3, SIZE, SIZE))


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 6, 3, stride=2)

    def forward(self, pictures):
        return self.layer(pictures).mean((2, 3))


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(register.BACKBONES, "small", lambda size: Small())
    return model_of(c.Encoder(name="small"))


@pytest.mark.parametrize("format", ["safetensors", "torchscript"])
def test_a_registered_backbone(registered, tmp_path, format):
    check(registered, format, tmp_path)


@pytest.mark.wide
@pytest.mark.parametrize("format", ["onnx", "torch-export"])
def test_a_registered_backbone_as_a_program(registered, tmp_path, format):
    check(registered, format, tmp_path)


def test_timm_has_no_registered_backbone(registered, tmp_path):
    with pytest.raises(InputError, match="--format hf: timm could not load it: it has no model small"):
        export(registered, tmp_path / "net", format="hf")
    text = export(registered, tmp_path / "net.safetensors").files[2].read_text()
    assert 'open_model("net.safetensors")' in text


@pytest.mark.wide
@pytest.mark.parametrize("format", PROGRAMS)
def test_a_module_of_torchvision(tmp_path, format):
    torch.manual_seed(0)
    network = torchvision.models.squeezenet1_1(weights=None).features  # gives maps, which are pooled
    model = open_model(network, size=SIZE, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    check(model, format, tmp_path)


def test_weights_of_a_module_without_a_name_are_refused(tmp_path):
    for format, path in (("safetensors", tmp_path / "net.safetensors"), ("hf", tmp_path / "net")):
        with pytest.raises(InputError, match=f"--format {format}: holds weights only, and Small has no name"):
            export(Small(), path, format=format)


def test_a_file_goes_on_into_another_format(tmp_path):
    model = model_of(VARIETY["resnet"])
    file = export(model, tmp_path / "net.safetensors").files[0]
    program = export(file, tmp_path / "other.ts").files[0]
    assert same(model.encoder, open_model(program).encoder, torch.randn(2, 3, SIZE, SIZE))


@pytest.mark.parametrize("name", ["net.pt", "net.torchscript"])
def test_torchscript_under_its_other_names(tmp_path, name):
    model = model_of(VARIETY["resnet"])
    file = export(model, tmp_path / name).files[0]
    assert same(model.encoder, open_model(file).encoder, torch.randn(2, 3, SIZE, SIZE))
    with pytest.raises(InputError, match="is a TorchScript program"):
        from_weights(run_of(VARIANTS["byol"], encoder=c.Encoder(name="test_resnet", weights=str(file))))


# --- what comes back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["safetensors", "hf"])
def test_a_run_starts_from_what_was_exported(trained, tmp_path, format):
    export(trained, path := tmp_path / f"net{ENDS[format]}", format=format)
    run = from_weights(run_of(VARIANTS["byol"], encoder=c.Encoder(weights=str(path))))
    assert (run.encoder.name, run.views.size) == ("test_resnet", 16)
    encoder = build_encoder(run.encoder, 16)
    assert all(
        torch.equal(value, encoder.state_dict()[name]) for name, value in load_encoder(trained).state_dict().items()
    )


def test_the_description_is_how_timm_prepares_pictures(trained, tmp_path):
    """The middle of a wide picture, as `evaluation_view` has it, within the rounding of 8 bits."""
    about = json.loads(export(trained, tmp_path / "net.safetensors").files[1].read_text())
    transform = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=about["pretrained_cfg"]))
    picture = Image.linear_gradient("L").resize((60, 40)).convert("RGB")
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(40, 60, 3).permute(2, 0, 1)
    ours = evaluation_view(pixels[None], None, open_model(trained).views)[0]
    assert (transform(picture) - ours).abs().max() < 1.5 / 255 / 0.22


def test_load_encoder_gives_layers_of_torch_and_timm(tmp_path):
    run = run_of(
        VARIANTS["byol"], encoder=c.Encoder(name="resnet18", norm="group-ws"), epochs=1, subset=16, batch_size=8
    )
    run_training(run, tmp_path / "run")
    encoder, own = load_encoder(tmp_path / "run"), load(tmp_path / "run")[1].encoder
    assert not {type(module) for module in encoder.modules() if type(module).__module__.startswith("vergence")}
    assert encoder.state_dict().keys() == own.state_dict().keys()
    assert (encoder.dim, encoder.start) == (512, "random weights")
    x = torch.randn(2, 3, 16, 16)
    assert same(own, encoder, x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert same(encoder, torch.jit.trace(encoder, x), x)


@pytest.mark.wide
@pytest.mark.parametrize("name", VARIETY)
def test_every_exporter_takes_what_load_encoder_gives(tmp_path, name):
    pytest.importorskip("onnxscript")
    run = run_of(VARIANTS["byol"], encoder=VARIETY[name], epochs=0, data=c.Digits(size=32))
    run_training(replace(run, views=replace(run.views, size=32)), tmp_path / "run")
    encoder, x = load_encoder(tmp_path / "run"), torch.randn(2, 3, 32, 32)
    assert same(encoder, torch.export.export(encoder, (x,)).module(), x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert same(encoder, torch.jit.trace(encoder, x, check_trace=False), x)
        torch.onnx.export(encoder, (x,), tmp_path / "net.onnx", dynamo=True, verbose=False)


# --- the card ---------------------------------------------------------------------------------------------------------


def test_the_card_says_what_a_user_needs_and_no_place(trained, tmp_path):
    text = export(trained, tmp_path / "net.safetensors").files[2].read_text()
    for said in (
        "# byol (step ",
        "The middle square, resized to 16 x 16 pixels (an antialiased bilinear filter)",
        "Read back, it gives what was trained within",
        "- method: byol",
        "- verdict on the projections: **",
        "- verdict on the representation: **",
        "- kNN: **",
        "untrained ",
        "no picture ",
        "The weights belong to whoever trained them",
        "under Apache-2.0",
    ):
        assert said in text, said
    assert "started from" not in text
    assert str(Path.home()) not in text
    assert str(tmp_path) not in text
    assert str(trained.parent) not in text


def test_the_card_names_the_weights_that_a_run_started_from(trained, tmp_path):
    start = export(trained, tmp_path / "start.safetensors").files[0]
    run = from_weights(run_of(VARIANTS["byol"], encoder=c.Encoder(weights=str(start)), epochs=1, subset=40))
    run_training(run, tmp_path / "run")
    done = export(tmp_path / "run", tmp_path / "net", format="hf")
    text = done.files[2].read_text()
    assert text.startswith("---\nlibrary_name: timm\n")
    assert f"whose licence may apply: start.safetensors, SHA-256 `{run.encoder.weights_hash}`" in text
    assert "starting weights " in text
    assert str(tmp_path) not in text + done.files[1].read_text()


def test_the_card_of_an_unfinished_run_has_no_scores(trained, tmp_path):
    (tmp_path / "run").mkdir()
    for name in ("run.json", "checkpoints"):
        os.symlink(trained / name, tmp_path / "run" / name)
    text = export(tmp_path / "run", tmp_path / "net.safetensors").files[2].read_text()
    assert "None: it is of no finished run." in text
    assert "It was trained elsewhere." in export(Small(), tmp_path / "small.ts").files[2].read_text()


@pytest.mark.wide
def test_the_programs_of_the_card_run(tmp_path):
    model = model_of(VARIETY["vit"])
    for end in (".safetensors", ".ts", ".pt2", ".onnx"):
        export(model, tmp_path / f"net{end}")
    export(model, tmp_path / "folder", format="hf")
    texts = (tmp_path / "net.md").read_text() + (tmp_path / "folder" / "README.md").read_text()
    programs = [part.partition("```")[0] for part in texts.split("```python\n")[1:]]
    assert len(programs) == 5
    pictures = torch.randn(3, 3, SIZE, SIZE)
    safetensors.torch.save_file({"x": pictures}, tmp_path / "x.safetensors")
    expected = model.encoder(pictures)
    lines = ["import torch", "pictures, found = safetensors.torch.load_file('x.safetensors')['x'], []"]
    for program in programs:
        lines += [program, "found.append(torch.as_tensor(y))"]
    lines += [
        "safetensors.torch.save_file({str(i): y.detach().contiguous() for i, y in enumerate(found)}, 'y.safetensors')"
    ]
    script = "\n".join(["import safetensors.torch", *lines])
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=tmp_path, check=True)
    found = safetensors.torch.load_file(tmp_path / "y.safetensors")
    assert all(torch.allclose(y, expected, atol=1e-4) for y in found.values())


# --- what is refused --------------------------------------------------------------------------------------------------


def files_below(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("format", ["safetensors", "torchscript", "hf"])
def test_what_gives_something_else_is_refused(trained, tmp_path, monkeypatch, format):
    right = formats.WRITERS[format]

    def write(encoder, file, example):
        with torch.no_grad():
            next(encoder.parameters()).mul_(1.001)
        right.write(encoder, file, example)

    monkeypatch.setitem(formats.WRITERS, format, replace(right, write=write))
    with pytest.raises(InputError, match=rf"--format {format}: read back, it differs by .*; nothing is written"):
        export(trained, tmp_path / "new" / f"net{ENDS[format]}", format=format)
    assert not [*tmp_path.iterdir()]


def test_what_cannot_be_written_is_one_line(tmp_path):
    class Odd(Small):
        def forward(self, pictures):
            return torch.from_numpy(super().forward(pictures).detach().numpy() * len(pictures))

    with pytest.raises(InputError, match=r"--format torch-export: Odd cannot be written so: ") as caught:
        export(Odd(), tmp_path / "net.pt2")
    assert "\n" not in str(caught.value)
    said = r"--format torchscript: Odd cannot be written so: read back, it gives \[4, 6\], not \[16, 6\]"
    with pytest.raises(InputError, match=said):
        export(Odd(), tmp_path / "net.ts")  # the example's pictures became part of the program
    assert not [*tmp_path.iterdir()]


def test_an_encoder_that_is_not_finite_is_refused(tmp_path):
    model = model_of(VARIETY["resnet"])
    with torch.no_grad():
        next(model.encoder.parameters()).fill_(float("nan"))
    with pytest.raises(InputError, match="a model: its representations are not finite"):
        export(model, tmp_path / "net.safetensors")
    assert not [*tmp_path.iterdir()]


def test_only_what_was_exported_is_replaced(trained, tmp_path):
    model = model_of(VARIETY["resnet"])
    (tmp_path / "net.safetensors").write_text("precious")
    with pytest.raises(InputError, match=r"net.safetensors is there, and was not exported"):
        export(model, tmp_path / "net.safetensors")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(InputError, match=r"other.json is there, and was not exported"):
        export(model, tmp_path / "other.ts")
    assert files_below(tmp_path) == {"net.safetensors": b"precious", "other.json": b"{}"}
    export(model, tmp_path / "new.safetensors")
    before = files_below(tmp_path)
    export(model, tmp_path / "new.safetensors")
    assert files_below(tmp_path) == before
    export(model, tmp_path / "new.ts")
    assert "torch.jit.load" in (tmp_path / "new.md").read_text()
    assert "checkpoint_path" in (tmp_path / "new.md").read_text()
    with pytest.raises(InputError, match=r"new.json describes another encoder, .*new.safetensors"):
        export(trained, tmp_path / "new.ts")
    for path in (tmp_path / "folder.ts", tmp_path / "folder.json"):
        path.mkdir()
        with pytest.raises(InputError, match="is there, and was not exported"):
            export(model, tmp_path / "folder.ts")


def test_nothing_is_written_among_pictures_or_into_a_run(trained, tmp_path):
    with pytest.raises(InputError, match="belongs to a run; choose another name"):
        export(trained, trained, format="hf")
    with pytest.raises(InputError, match="belongs to a run; choose another name"):
        export(trained, trained / "diverged.ts")
    with pytest.raises(InputError, match="is a file, and a model's folder is to be written"):
        export(trained, trained / "run.json", format="hf")
    assert not (trained / "diverged.ts").exists()


@pytest.fixture
def pictures(tmp_path):
    for i in range(12):
        path = tmp_path / "pictures" / f"class{i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.linear_gradient("L").rotate(20 * i).resize((40, 24)).convert("RGB").save(path)
    return tmp_path / "pictures"


@pytest.mark.parametrize("crops", ["whole", "square"])
def test_a_folder_of_pictures(pictures, tmp_path, crops):
    data = c.Folder(root=str(pictures), size=16, crops=crops)
    run_training(run_of(VARIANTS["byol"], data=data, subset=None, batch_size=4, epochs=1), tmp_path / "run")
    with pytest.raises(InputError, match="lies among the pictures"):
        export(tmp_path / "run", pictures / "net.safetensors")
    done = export(tmp_path / "run", tmp_path / "net.safetensors")
    assert done.compared.endswith("of the run's pictures")
    about = json.loads(done.files[1].read_text())
    assert about["pretrained_cfg"]["interpolation"] == {"whole": "bilinear", "square": "bicubic"}[crops]
    assert about["vergence"]["data"] == "pictures"
    assert str(tmp_path) not in done.files[1].read_text() + done.files[2].read_text()
    pictures.rename(tmp_path / "elsewhere")
    assert export(tmp_path / "run", tmp_path / "net.safetensors").compared == "16 handwritten digits"
    found = export(tmp_path / "run", tmp_path / "net.safetensors", data_dir=tmp_path / "elsewhere").compared
    assert found.endswith("of the run's pictures")


def test_published_pictures_are_not_fetched_for_it(trained):
    model = open_model(trained)
    model = replace(model, run=replace(model.run, data=c.CIFAR10(size=16)))
    pictures, which = exporting._pictures(model, None)
    assert (pictures.shape, which) == ((16, 3, 16, 16), "handwritten digits")


def test_a_format_is_named_by_the_suffix_or_by_hand():
    assert format_of(Path("x.onnx"), None) == "onnx"
    assert format_of(Path("x.pt"), None) == "torchscript"
    assert format_of(Path("byol-0.1"), "hf") == "hf"
    for path, asked, said in (
        ("x", None, r"x does not say the format: end it in .safetensors \(safetensors\), .onnx"),
        ("x.ts", "onnx", r"call a file of onnx x.onnx, not x.ts"),
        ("x", "onnx", r"call a file of onnx x.onnx, not x"),
        ("x.onnx", "hf", r"hf is a folder, and x.onnx is called as a file; leave out its .onnx"),
    ):
        with pytest.raises(InputError, match=said):
            format_of(Path(path), asked)


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        (c.Encoder(name="test_vit", drop_path=0.1), ""),
        (c.Encoder(stem="cifar", norm="group"), "its resnet18 has no encoder.stem cifar and no encoder.norm group"),
        (c.Encoder(name="test_vit", pool="mean"), "its test_vit has no encoder.pool mean"),
        (c.Encoder(name="nothing"), "it has no model nothing"),
    ],
)
def test_what_timm_cannot_build_is_said(architecture, said):
    assert formats.unknown_to_timm(architecture) == said


def test_a_missing_package_is_named_with_its_extra(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(InputError, match=r"--format onnx: onnxscript not installed: pip install 'vergence\[onnx\]'"):
        export(trained, tmp_path / "net.onnx")
    assert not [*tmp_path.iterdir()]


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command(trained, tmp_path):
    answer = vergence("export", trained, "--out", tmp_path / "deep/er/net.ts")
    assert (answer.code, answer.err) == (0, "")
    assert "net.ts: torchscript, 1." in answer.out
    assert "on 16 of the run's pictures" in answer.out
    assert {path.name for path in (tmp_path / "deep/er").iterdir()} == {"net.ts", "net.json", "net.md"}
    weights = tmp_path / "plain.safetensors"
    safetensors.torch.save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), weights)
    words = ("export", weights, "--encoder", "test_resnet", "--size", "32", "--format", "hf")
    answer = vergence(*words, "--out", tmp_path / "hub")
    assert answer.code == 0, answer.err
    assert "nothing says how its pictures were normalized" in answer.out
    assert "Assumed: nothing says how" in (tmp_path / "hub/README.md").read_text()
    assert vergence("export", trained, "--out", tmp_path / "net").code == 2
    assert vergence("export", trained, "--out", tmp_path / "net.onnx", "--format", "tf").code == 2


def test_the_callers_filters_stay(trained, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        export(trained, tmp_path / "net.ts")
        assert warnings.filters == before
    assert package.export is export


def test_where_the_disk_is_full_nothing_is_left(tmp_path, monkeypatch):
    """The encoder comes last: its description and card, which are there by then, are taken away again."""
    written = []

    def full(path, content):
        if written:
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        path.write_bytes(content)

    monkeypatch.setattr(exporting.durable, "write_file", full)
    with pytest.raises(OSError, match="No space left"):
        export(model_of(VARIETY["resnet"]), tmp_path / "x.safetensors")
    assert written
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["run", "torchvision:resnet18"])
def test_no_other_architecture_is_asked_of_what_says_its_own(trained, what):
    with pytest.raises(InputError, match="says itself what it is; leave the option out"):
        open_model(trained if what == "run" else what, encoder="resnet50")
