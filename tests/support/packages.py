"""Small model packages, scripted here, whose answers identify the image."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from app.packages.write import PackageDraft, write_package

SIDE = 32
_LOGITS = {"kind": "logits", "task": "single_label"}


class MeanColour(torch.nn.Module):
    """Logits are the mean of each channel: the strongest colour wins."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3)) * self.factor


class FailsOnRed(torch.nn.Module):
    """Raises when an image is red, as a model with a broken operation does.

    Args:
        rounds: of arithmetic before, so that other requests come in the meantime.
    """

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds
        self.weight = torch.nn.Parameter(torch.eye(256))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        busy = self.weight + images.mean() * 0
        for _ in range(self.rounds):
            busy = busy @ self.weight
        logits = images.mean(dim=(2, 3)) + busy[0, 1]
        if bool((logits[:, 0] > 0.9).any()):
            raise ValueError("red is not supported")
        return logits


class HangsOnRed(torch.nn.Module):
    """Runs forever on a red image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = images.mean(dim=(2, 3))
        rounds = logits
        while bool((logits[:, 0] > 0.9).any()):
            rounds = rounds + 1
        return logits + rounds * 0


class LiesOnRed(torch.nn.Module):
    """Returns the mean of each channel, which sum to less than 1, and 2 for red."""

    def __init__(self, ending: str) -> None:
        super().__init__()
        self.ending = ending

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        means = images.mean(dim=(2, 3))
        scores = means.softmax(1) if self.ending == "softmax" else means
        return torch.where(means[:, :1] > 0.9, scores * 3, scores)


class PoolsToSix(torch.nn.Module):
    """Pools 32 pixels to 6, which is no integer ratio, as AlexNet does at some sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.pool = torch.nn.AdaptiveAvgPool2d(6)
        self.head = torch.nn.Linear(8 * 36, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = self.pool(torch.relu(self.convolution(images)))
        scores: torch.Tensor = self.head(pooled.flatten(1))
        return scores


class Slow(torch.nn.Module):
    """Runs arithmetic that no optimisation removes, SLOW_S long on this machine."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds
        self.weight = torch.nn.Parameter(torch.eye(256))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        # Depends on the image, so that freezing the module cannot compute it in advance.
        busy = self.weight + images.mean() * 0
        for _ in range(self.rounds):
            busy = busy @ self.weight
        return images.mean(dim=(2, 3)) + busy[0, 1]


class SlowWithWhite(Slow):
    """Computes a white image for as many rounds as Slow does any, and others at once."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        busy = self.weight + images.mean() * 0
        if bool(images.min() > 0.99):
            for _ in range(self.rounds):
                busy = busy @ self.weight
        return images.mean(dim=(2, 3)) + busy[0, 1]


SLOW_S = 0.5


def build_colour_package(
    weights_dir: Path,
    name: str,
    labels: Sequence[str],
    version: str = "1",
    factor: float = 10,
    scaled_decode: bool = False,
) -> Path:
    """Build a model that names the strongest colour channel; the factor scales its logits."""
    return _build(weights_dir, name, MeanColour(factor), labels, version, scaled_decode)


def build_hanging_package(weights_dir: Path, name: str) -> Path:
    """Build a model that runs forever on a red image."""
    return _build(weights_dir, name, HangsOnRed(), ["red", "green", "blue"])


def build_pooling_package(weights_dir: Path, name: str) -> Path:
    """Build a model that optimize_for_inference breaks."""
    return _build(weights_dir, name, PoolsToSix(), ["red", "green", "blue"])


def build_lying_package(
    weights_dir: Path, name: str, ending: str = "softmax", task: str = "single_label"
) -> Path:
    """A model whose declared probabilities are some only if ``ending`` fits and no image is red."""
    output = {"kind": "probabilities", "task": task}
    return _build(weights_dir, name, LiesOnRed(ending), ["red", "green", "blue"], output=output)


def build_failing_package(weights_dir: Path, name: str, rounds: int = 0) -> Path:
    """Build a model that raises on a red image."""
    return _build(weights_dir, name, FailsOnRed(rounds), ["red", "green", "blue"])


def build_slow_package(weights_dir: Path, name: str, seconds: float = SLOW_S) -> Path:
    """Build a model that takes about this time for an image."""
    return _build(weights_dir, name, Slow(_rounds_of(seconds)), ["red", "green", "blue"])


def build_slow_with_white_package(weights_dir: Path, name: str, seconds: float) -> Path:
    """Build a model that takes about this time for a white image, and is ready at once."""
    return _build(weights_dir, name, SlowWithWhite(_rounds_of(seconds)), ["red", "green", "blue"])


def _rounds_of(seconds: float) -> int:
    """Measure as the server runs it: frozen, on one thread."""
    rounds = 500
    probe = torch.jit.freeze(torch.jit.script(Slow(rounds).eval()))
    image = torch.zeros(1, 3, SIDE, SIDE)
    taken_s = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        for _ in range(5):
            started = time.monotonic()
            probe(image)
            taken_s.append(time.monotonic() - started)
    torch.set_num_threads(threads)
    # The shortest is the least disturbed by other processes.
    return max(1, int(rounds * seconds / min(taken_s)))


def _build(
    weights_dir: Path,
    name: str,
    model: torch.nn.Module,
    labels: Sequence[str],
    version: str = "1",
    scaled_decode: bool = False,
    output: dict[str, Any] = _LOGITS,
) -> Path:
    draft = PackageDraft(
        name=name,
        version=version,
        input={"height": SIDE, "width": SIDE, "channels": 3, "layout": "NCHW", "dtype": "float32"},
        preprocess=_STEPS,
        output={**output, "classes": len(labels)},
        labels=labels,
        save_model=lambda path: torch.jit.script(model.eval()).save(str(path)),
        scaled_decode=scaled_decode,
    )
    return write_package(weights_dir, draft).folder


_STEPS: list[dict[str, Any]] = [
    {"step": "color", "order": "RGB"},
    {
        "step": "resize",
        "mode": "exact",
        "height": SIDE,
        "width": SIDE,
        "filter": "bilinear",
        "antialias": True,
        "resampling": "fast",
    },
    {"step": "scale", "multiply": 1 / 255, "add": 0},
]
