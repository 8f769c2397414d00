"""Weights from files of every naming there is, into encoders; what does not fit is named."""

import argparse
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import nn

from vergence import config as c
from vergence.errors import InputError
from vergence.networks import weights
from vergence.networks.encoders import build_encoder


def network(name="test_resnet", **arguments):
    """A network of timm's with its classifier, as it is published."""
    torch.manual_seed(1)
    return timm.create_model(name, **arguments)


def built(file, name="test_resnet", size=32, **settings):
    return build_encoder(c.Encoder(name=name, weights=str(file), **settings), size)


def same(encoder, published):
    state = published.state_dict()
    return all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())


def prefixed(prefix, state):
    return {prefix + name: value for name, value in state.items()}


WRAPPED = {
    "plain": lambda state: state,
    "data parallel": lambda state: prefixed("module.", state),
    "nested": lambda state: {"model": state, "epoch": 3, "args": argparse.Namespace(lr=0.1, out=Path("x"))},
    "lightning": lambda state: {
        "state_dict": prefixed("backbone.", state) | {"projection_head.weight": torch.ones(2)},
        "pytorch-lightning_version": "2.0",
        "lr": np.float64(0.1),
    },
    "compiled": lambda state: {"state_dict": prefixed("_orig_mod.encoder.", state)},
    "moco": lambda state: {
        "state_dict": prefixed("module.encoder_k.", {name: torch.zeros_like(value) for name, value in state.items()})
        | prefixed("module.encoder_q.", state)
    },
    "dino": lambda state: {
        "student": prefixed("module.backbone.", {name: torch.zeros_like(value) for name, value in state.items()}),
        "teacher": prefixed("backbone.", state) | {"head.mlp.0.weight": torch.ones(2)},
    },
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_weights_are_found_in_what_training_scripts_write(kind, tmp_path):
    published = network()
    torch.save(WRAPPED[kind](published.state_dict()), tmp_path / "x.pth")
    assert same(built(tmp_path / "x.pth"), published)


def test_a_classifier_is_left_out_and_the_rest_taken(tmp_path):
    published = network(num_classes=7)
    safetensors.torch.save_file(published.state_dict(), tmp_path / "x.safetensors")
    encoder = built(tmp_path / "x.safetensors")
    assert same(encoder, published)
    assert encoder.start == f"weights of {tmp_path / 'x.safetensors'}"


def test_positions_are_interpolated_to_the_grid(tmp_path):
    published = network("test_vit", num_classes=0)  # 160 px, patches of 16
    torch.save(published.state_dict(), tmp_path / "vit.pth")
    encoder = built(tmp_path / "vit.pth", "test_vit", 64)
    assert "positions interpolated from 10 x 10 patches to 4 x 4" in encoder.start
    published.set_input_size((64, 64))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(encoder.eval()(x), published.eval()(x), atol=1e-5)


def test_the_publishers_names_of_dinov2_are_read(tmp_path):
    """Its files have a mask token, which no encoder has; positions for 518 px, here a small grid."""
    name = "vit_small_patch14_dinov2"
    published = timm.create_model(name, num_classes=0, img_size=56)
    torch.save(published.state_dict() | {"mask_token": torch.zeros(1, 384)}, tmp_path / "dinov2.pth")
    encoder = built(tmp_path / "dinov2.pth", name, 28)
    assert torch.equal(encoder.blocks[3].ls1.gamma, published.blocks[3].ls1.gamma)
    assert "from 4 x 4 patches to 2 x 2" in encoder.start


def test_the_publishers_names_of_dinov3_are_read(tmp_path, capsys):
    """Its files have biases that are all 0, and positions that are computed."""
    name = "vit_small_patch16_dinov3"
    published = timm.create_model(name, num_classes=0, img_size=32)
    theirs = {"gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma", "reg_token": "storage_tokens"}
    state = {
        re.sub("gamma_[12]|reg_token", lambda m: theirs[m[0]], key): v for key, v in published.state_dict().items()
    }
    state |= {"mask_token": torch.zeros(1, 384), "rope_embed.periods": torch.zeros(16)}
    for block in range(12):
        state |= dict.fromkeys(
            (f"blocks.{block}.attn.qkv.bias", f"blocks.{block}.attn.qkv.bias_mask"), torch.zeros(3 * 384)
        )
    torch.save(state, tmp_path / "dinov3.pth")
    assert same(built(tmp_path / "dinov3.pth", name, 32), published)
    assert capsys.readouterr().out == ""


def test_torchvisions_networks_are_read_under_their_names(tmp_path):
    resnet = torchvision.models.resnet18(weights=None)
    torch.save(resnet.state_dict(), tmp_path / "resnet.pth")
    assert same(built(tmp_path / "resnet.pth", "resnet18"), resnet)
    vit = torchvision.models.VisionTransformer(32, 16, 12, 3, 192, 768).eval()
    torch.save({"model": {f"module.{key}": value for key, value in vit.state_dict().items()}}, tmp_path / "vit.pth")
    encoder = built(tmp_path / "vit.pth", "vit_tiny_patch16_224", 32).eval()
    vit.heads = nn.Identity()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(encoder(x), vit(x), atol=1e-5)


def test_what_does_not_fit_is_named(tmp_path):
    state = network().state_dict()
    name = next(iter(state))
    missing = dict(list(state.items())[1:])
    torch.save(missing | {"strange.weight": torch.ones(1)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=rf"--encoder.weights: .*x.pth does not fit test_resnet: 1 missing \({name}\)"):
        built(tmp_path / "x.pth")
    torch.save(state | {"strange.weight": torch.ones(1)}, tmp_path / "y.pth")
    with pytest.raises(InputError, match=r"1 unexpected \(strange.weight\)"):
        built(tmp_path / "y.pth")
    torch.save(state | {name: torch.ones(5, 3, 3, 3)}, tmp_path / "z.pth")
    with pytest.raises(InputError, match=rf"1 of another shape \({name} \[5, 3, 3, 3\], not \["):
        built(tmp_path / "z.pth")


UNFIT = {
    "not finite": lambda value: value * float("nan"),
    "no plain": lambda value: value.to("meta"),
    "no plain real": lambda value: value.to_sparse(),
    "no plain real tensors": lambda value: value.to(torch.complex64),
}


@pytest.mark.parametrize("said", UNFIT)
def test_tensors_that_no_network_can_have_are_refused(said, tmp_path):
    state = network().state_dict()
    name = next(iter(state))
    torch.save(state | {name: UNFIT[said](state[name])}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=rf"x.pth: 1 are {said}.* \({name}\)"):
        built(tmp_path / "x.pth")


def test_names_of_tensors_are_shown_on_one_line(tmp_path):
    torch.save(network().state_dict() | {"a\nerror: \x1b[31mb": torch.ones(1)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"1 unexpected \(a\\nerror: \\x1b\[31mb\)") as caught:
        built(tmp_path / "x.pth")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "told",
    [
        {"pretrained_cfg": "x"},
        {"vergence": [1]},
        {"pretrained_cfg": {"mean": [float("nan"), 0, 0], "std": [1, 1, 1]}},
        {"pretrained_cfg": {"mean": [0, 0, 0], "std": [0, 0, 0]}},
        {"pretrained_cfg": {"input_size": [3, -1, -1]}},
    ],
)
def test_a_description_of_another_form_is_one_line_that_names_it(told, tmp_path):
    safetensors.torch.save_file(network().state_dict(), tmp_path / "x.safetensors")
    (tmp_path / "x.json").write_text(json.dumps({"architecture": "test_resnet"} | told))
    with pytest.raises(InputError, match=r"x.json: not a description as timm writes it: ") as caught:
        weights.find(str(tmp_path / "x.safetensors"))
    assert len(str(caught.value).splitlines()) == 1


class Runs:
    """Creates a file where it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def test_code_in_a_file_is_named_and_never_runs(tmp_path):
    torch.save({"state_dict": network().state_dict(), "x": Runs(tmp_path / "ran")}, tmp_path / "bad.pth")
    with pytest.raises(InputError, match=r"bad.pth: holds code \(posix.mkdir\); nothing of it was executed") as caught:
        built(tmp_path / "bad.pth")
    assert not (tmp_path / "ran").exists()
    assert len(str(caught.value).splitlines()) == 1
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(InputError, match="holds code"):
        built(tmp_path / "module.pth")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no file of weights, or damaged"),
        (b"hello", "is no file of weights, or damaged"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{not a header}..", "is no file of weights, or damaged"),
        (b"PK\x03\x04 and no more", "is no file of weights, or damaged"),
    ],
)
def test_no_file_of_weights_is_one_line(content, said, tmp_path):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        built(tmp_path / "x.pth")
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_without_tensors_says_what_it_holds(tmp_path):
    torch.save([1, 2], tmp_path / "x.pth")
    with pytest.raises(InputError, match="holds no tensors by name, but a list"):
        built(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nowhere.pth", "no such file or folder"),
        ("resnet18.a1_in1k", "timm's pretrained weights are named timm:resnet18.a1_in1k"),
        ("timm:resnet18.zz", "timm has no such weights of resnet18, but a1_in1k"),
        ("timm:zz", "timm has no model zz"),
        ("timm:test_vit4", "timm has no pretrained weights of test_vit4"),
        ("~nobody-of-this-name/x", "nobody-of-this-name"),
    ],
)
def test_weights_that_are_not_there(text, said):
    with pytest.raises(InputError, match=said):
        weights.find(text)


def test_a_folder_as_timm_writes_it_says_what_it_holds(tmp_path):
    published = network("test_vit", num_classes=0)
    safetensors.torch.save_file(published.state_dict(), tmp_path / "model.safetensors")
    about = {"input_size": [3, 96, 96], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "test_vit", "pretrained_cfg": about}))
    source = weights.find(str(tmp_path))
    assert source.encoder == c.Encoder(name="test_vit")
    assert (source.size, source.mean, source.std) == (96, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    assert weights.find(str(tmp_path / "model.safetensors")) == weights.Source(
        **vars(source) | {"text": str(tmp_path / "model.safetensors")}
    )
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "test_vit", "pretrained_cfg": {"mean": "red"}}))
    with pytest.raises(InputError, match=r"config.json: not a description as timm writes it"):
        weights.find(str(tmp_path))


def test_what_timm_names_comes_from_the_cache(tmp_path, monkeypatch):
    """A file that lies where the hub's library would have put it is taken without asking anybody."""
    from huggingface_hub import constants

    folder = tmp_path / "models--timm--test_resnet.r160_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("abc")
    (folder / "snapshots/abc").mkdir(parents=True)
    published = network(num_classes=0)
    safetensors.torch.save_file(published.state_dict(), folder / "snapshots/abc/model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    source = weights.find("timm:test_resnet.r160_in1k")
    assert source.file == folder / "snapshots/abc/model.safetensors"
    assert source.size == 160
    assert same(built("timm:test_resnet.r160_in1k"), published)


class Hub(http.server.BaseHTTPRequestHandler):
    """A server that has one file, as the hub answers for it."""

    content = b""
    asked: ClassVar[list[str]] = []

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        if self.answer():
            self.wfile.write(self.content)

    def answer(self):
        there = self.path == "/timm/test_resnet.r160_in1k/resolve/main/model.safetensors"
        self.asked.append(f"{self.command} {there}")
        self.send_response(200 if there or self.path == "/" else 404)
        if there:
            self.send_header("ETag", f'"{hashlib.sha256(self.content).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(self.content) if there else 0))
        self.end_headers()
        return there

    def log_message(self, *_):
        pass


def test_what_timm_names_is_downloaded_once(tmp_path):
    published = network(num_classes=0)
    Hub.content, Hub.asked = safetensors.torch.save(published.state_dict()), []
    script = "from vergence.networks.weights import find; print(find('timm:test_resnet.r160_in1k').file)"
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hub = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_CACHE": str(tmp_path)}
        for asks in (True, False):  # the second time it is there
            words = [sys.executable, "-c", script]
            done = subprocess.run(words, env=os.environ | hub, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            assert Path(done.stdout.strip()).read_bytes() == Hub.content
            assert ("GET True" in Hub.asked) == bool(Hub.asked) == asks
            Hub.asked.clear()
        server.shutdown()


def test_without_cache_and_network_there_is_one_line(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"neither in the cache nor to be had: .*give a local file") as caught:
        weights.find("timm:test_vit.r160_in1k")
    assert len(str(caught.value).splitlines()) == 1
