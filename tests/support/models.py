"""Small eager models for the builder, and package commands in this process."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from click.testing import CliRunner, Result

from app.cli.commands import cli
from app.packages.build.golden import draft_golden, preprocess_golden, read_golden_images
from app.packages.build.reference import transform_of
from app.packages.manifest import parse_preprocess
from app.packages.write import PackageDraft, write_package

SIDE = 64
SHARP_LABELS = ["zero", "one", "two", "three", "four"]
SHARP_STEPS: list[dict[str, Any]] = [
    {"step": "color", "order": "RGB"},
    {
        "step": "resize",
        "mode": "shortest_side",
        "size": 80,
        "filter": "bilinear",
        "antialias": True,
        "resampling": "fast",
    },
    {"step": "center_crop", "height": SIDE, "width": SIDE, "pad": [0, 0, 0]},
    {"step": "scale", "multiply": 1 / 255, "add": 0},
    {"step": "normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
]


class Sharp(torch.nn.Module):
    """Random filters over fine detail: colours, blur and position all change its scores."""

    def __init__(self, classes: int = 5, channels: int = 3) -> None:
        super().__init__()
        self.detail = torch.nn.Conv2d(channels, 16, 3, stride=2, padding=1)
        self.head = torch.nn.Linear(16 * 16, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.detail(images))
        pooled = torch.nn.functional.adaptive_avg_pool2d(features, 4).flatten(1)
        logits: torch.Tensor = self.head(pooled)
        return logits


def sharp(classes: int = 5, channels: int = 3) -> Sharp:
    """Build the model with a fixed seed and weights that give scores far from uniform."""
    torch.manual_seed(7)
    model = Sharp(classes, channels).eval()
    with torch.no_grad():
        model.detail.weight.mul_(3)
        model.head.weight.mul_(3)
    return model


class Frozen(torch.nn.Module):
    """Has a condition on the data, which tracing freezes."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = images.mean(dim=(2, 3))
        if bool(images.mean() > 0.45):
            return logits * 10
        return logits


class Binary(torch.nn.Module):
    """One logit: red against blue."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        means = images.mean(dim=(2, 3))
        return (means[:, :1] - means[:, 2:]) * 10


def build_sharp_package(weights: Path, name: str = "sharp", tolerance: float = 0.005) -> Path:
    """Build a package of sharp() with golden samples; returns its folder."""
    model, output = sharp(), ("logits", "single_label")
    images = read_golden_images(())
    inputs = preprocess_golden(images, transform_of(parse_preprocess(SHARP_STEPS, "")), "exif")
    draft = PackageDraft(
        name=name,
        version="1",
        input={"height": SIDE, "width": SIDE, "channels": 3, "layout": "NCHW", "dtype": "float32"},
        preprocess=SHARP_STEPS,
        output={"kind": "logits", "task": "single_label", "classes": 5},
        labels=SHARP_LABELS,
        save_model=lambda path: torch.jit.script(model).save(str(path)),
        golden=draft_golden(images, inputs, model, output, SHARP_LABELS, tolerance),
    )
    return write_package(weights, draft).folder


def build_sharp_checkpoint(path: Path, state: object = None) -> Path:
    """Save the weights of sharp(), or something else, as a checkpoint."""
    torch.save(sharp().state_dict() if state is None else state, path)
    return path


def script(model: torch.nn.Module, path: Path) -> Path:
    """Save a model as TorchScript."""
    torch.jit.script(model.eval()).save(str(path))
    return path


def write_labels(path: Path, labels: Sequence[str]) -> Path:
    """Save labels, one a line."""
    path.write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    return path


def classifyd(*arguments: object) -> Result:
    """Run a command in this process; an error that the user can fix is in ``.exception``."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


class Scores(NamedTuple):
    """What a model returns that has features and logits."""

    logits: torch.Tensor
    features: torch.Tensor


class ManyOutputs(torch.nn.Module):
    """Returns the logits of sharp() with something else, in a container of a kind."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.sharp = sharp()

    def forward(self, images: torch.Tensor) -> Any:
        logits, features = self.sharp(images), images.mean(dim=(2, 3))
        match self.kind:
            case "dict":
                return {"features": features, "logits": logits}
            case "tuple":
                return features, logits
            case "namedtuple":
                return Scores(logits, features)
            case "object":
                return SimpleNamespace(logits=logits, features=features, loss=None)
        return {"logits": logits}


class ScriptedDict(torch.nn.Module):
    """Returns a dict, and can be scripted."""

    def __init__(self) -> None:
        super().__init__()
        self.sharp = sharp()

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"features": images.mean(dim=(2, 3)), "logits": self.sharp(images)}
