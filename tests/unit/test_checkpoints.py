"""Weights as training code stores them: what is found, what is said, what is refused."""

import argparse
import logging
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from app.errors import OperatorError
from app.packages.build.checkpoint import load_checkpoint
from app.packages.build.models import read_torchscript
from tests.support.models import script, sharp

Weights = dict[str, torch.Tensor]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.pth"


def weights(prefix: str = "", factor: float = 1) -> Weights:
    return {prefix + name: tensor * factor for name, tensor in sharp().state_dict().items()}


def loaded_factor(path: Path, **where: str) -> float:
    """Load a checkpoint; return how much larger its weights are than those of sharp()."""
    model = sharp()
    load_checkpoint(model, path, **where)
    factors = {
        round(float((tensor / sharp().state_dict()[name]).mean()), 3)
        for name, tensor in model.state_dict().items()
    }
    assert len(factors) == 1
    return factors.pop()


@pytest.mark.parametrize(
    "prefix",
    [
        "module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.", "model.", "net.",
        "backbone.", "model.net._orig_mod.", "net.module.backbone.", "classifier.inner.",
    ],
)  # fmt: skip
def test_prefixes_are_found_by_the_names_of_the_model(path: Path, prefix: str) -> None:
    torch.save({"state_dict": weights(prefix, 2), "epoch": 3}, path)
    assert loaded_factor(path) == 2


def test_a_wrapper_in_the_middle_of_the_names_is_left_out(path: Path) -> None:
    state = {name.replace("detail.", "detail._orig_mod."): t for name, t in weights().items()}
    torch.save(state, path)
    assert loaded_factor(path) == 1


def test_the_names_of_a_loss_are_ignored_and_named(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loss = {"loss.weight": torch.ones(5), "train_acc.tp": torch.ones(5)}
    torch.save({"state_dict": weights("model.", 2) | loss}, path)
    assert loaded_factor(path) == 2
    ignored = "ignored 2 tensors that the model lacks: loss.weight, train_acc.tp"
    assert caplog.messages == [f"checkpoint {path}: {ignored}"]


@pytest.mark.parametrize("name", ["detail.gate", "3.weight"])
def test_another_layer_of_the_model_is_not_ignored(path: Path, name: str) -> None:
    torch.save(weights() | {name: torch.ones(5)}, path)
    with pytest.raises(OperatorError, match=f"not of this model: unexpected {name}"):
        loaded_factor(path)


def test_two_sets_of_weights_are_a_question(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(weights("student.", 2) | weights("teacher.", 3), path)
    with pytest.raises(OperatorError, match=r"'student.', 'teacher.': choose one with --check"):
        loaded_factor(path)
    assert loaded_factor(path, prefix="teacher") == 3
    torch.save(weights("model.", 2) | weights("ema_model.module.", 3), path)
    caplog.clear()
    assert loaded_factor(path) == 2
    assert "took the weights with the prefix 'model.'; others have 'ema_model.'" in caplog.text


@pytest.mark.parametrize(
    ("document", "factor", "note"),
    [
        (
            {"state_dict": weights("", 2), "state_dict_ema": weights("", 3)},
            2,
            "took the weights under state_dict; others are under state_dict_ema (--checkpoint-key)",
        ),
        (
            {"model_ema": {"n_averaged": torch.tensor(5)} | weights("module.", 3),
             "model": weights("", 2)},
            2,
            "took the weights under model; others are under model_ema (--checkpoint-key)",
        ),
        (
            {"n_averaged": torch.tensor(5)} | weights("module.", 3),
            3,
            "took the averaged weights; it has no others",
        ),
        ({"model_ema": weights("", 3)}, 3, "took the averaged weights under model_ema; it has no"),
    ],
)  # fmt: skip
def test_averaged_weights_are_named(
    path: Path, caplog: pytest.LogCaptureFixture, document: Any, factor: float, note: str
) -> None:
    torch.save(document, path)
    assert loaded_factor(path) == factor
    assert note in caplog.text
    assert len(caplog.messages) == 1


def test_the_key_chooses(path: Path) -> None:
    torch.save({"state_dict": weights("", 2), "ema": {"shadow": weights("", 3)}}, path)
    assert loaded_factor(path, key="ema.shadow") == 3
    with pytest.raises(OperatorError, match="--checkpoint-key may be state_dict, ema.shadow"):
        loaded_factor(path, key="weights")


def test_options_and_numpy_scalars_are_read(path: Path) -> None:
    args = argparse.Namespace(lr=0.1, model="sharp")
    numbers = {
        "best": np.float64(0.9),
        "epoch": np.int64(3),
        "done": np.bool_(True),
        "run": np.str_("a"),
    }
    torch.save({"model": weights("", 2), "args": args, "optimizer": {}, **numbers}, path)
    assert loaded_factor(path) == 2


class TrainingConfig:
    """Some type of the user's own."""


def test_another_type_is_named(path: Path) -> None:
    torch.save({"model": weights(), "config": TrainingConfig()}, path)
    expected = r"holds more than weights: \S+TrainingConfig. To unpickle .* model.state_dict\(\)"
    with pytest.raises(OperatorError, match=expected):
        loaded_factor(path)


def test_safetensors_are_read_and_half_precision_is_converted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "model.safetensors"
    save_file({name: tensor.half() for name, tensor in weights("model.", 2).items()}, path)
    assert loaded_factor(path) == 2
    assert caplog.messages == [f"checkpoint {path}: converted float16 to float32"]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(OperatorError, match="is not a whole safetensors file"):
        loaded_factor(path)


def test_weights_before_counters_of_batches_are_read(path: Path) -> None:
    norm = torch.nn.BatchNorm2d(3)
    state = norm.state_dict()
    del state["num_batches_tracked"]
    torch.save(state, path)
    load_checkpoint(norm, path)


def test_files_of_other_kinds_are_named(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    script(sharp(), path)
    with pytest.raises(OperatorError, match="is a TorchScript file, .* give it as --torchscript"):
        loaded_factor(path)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(OperatorError, match="is not a file of torch.save, or is damaged"):
        loaded_factor(path)
    torch.save(weights(), path)
    with pytest.raises(OperatorError, match="for a state_dict, use --torchvision or --factory"):
        read_torchscript(path)
    assert caplog.messages == []


class OnGpu(torch.nn.Module):
    """Moves its input to a GPU, as a graph does that was traced there."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu(images.to(torch.device("cuda:0")))


def test_a_graph_for_a_gpu_is_refused_with_what_to_do(path: Path) -> None:
    script(OnGpu(), path)
    with pytest.raises(OperatorError, match=r"computes on cuda:0, .* trace it again after model."):
        read_torchscript(path)


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("/version", b"3", b"99", "a PyTorch file with version 99, but the maximum supported"),
        (".py", b"torch.relu", b"ops.mine.relu", "builtin op: mine::relu.$"),
    ],
)
def test_torchscript_that_torch_cannot_load_is_explained_by_its_first_line(
    path: Path, name: str, old: bytes, new: bytes, told: str
) -> None:
    class Relu(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.relu(images)

    source = script(Relu(), path.with_suffix(".pt"))
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(path, "w") as changed:
        for entry in archive.namelist():
            data = archive.read(entry)
            changed.writestr(entry, data.replace(old, new) if entry.endswith(name) else data)
    with pytest.raises(OperatorError, match=told):
        read_torchscript(path)


def test_torchscript_of_half_precision_becomes_float32(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script(sharp().half(), path)
    with caplog.at_level(logging.WARNING):
        model = read_torchscript(path)
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    assert caplog.messages == [f"{path}: converted half precision to float32"]
