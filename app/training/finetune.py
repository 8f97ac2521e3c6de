"""Fine-tuning of the last layers, an epoch at a time, each stored in the work folder."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from app.packages.build.models import Module
from app.training.augmentation import AugmentedReader
from app.training.calibration import Labels, Logits, log_loss
from app.training.device import Device, batches
from app.training.inspection import Inspected
from app.training.progress import Progress
from app.training.work import load_state, save_state

EPOCHS = 8
BATCH = 32
PART = 8
"""Photos of a batch that one thread computes; the sum of the parts has a fixed order."""

TRAINED_SHARE = 0.5
"""Of the network's parameters: the last ones, in the order of the layers."""

LEARNING_RATE = 3e-3
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-3
LABEL_SMOOTHING = 0.1
WARM_UP_SHARE = 0.1

Score = Callable[[Module], Logits]


@dataclass(frozen=True)
class Epoch:
    """The mean loss of an epoch on the photos to train on; log loss and top-1 on the others."""

    loss: float
    held_out_loss: float
    top1: float


class FineTuning:
    """Trains a network from where the linear classifier has left it.

    Normalisation and dropout stay as in evaluation mode: statistics of so few photos would harm,
    and photos do not affect each other.

    Args:
        network: with its classifier; changed in place.
        photos: to train on.
        labels: class indices (photos,).
        augmented: makes their inputs.
        device: where to compute.
        seed: of the views and of their order.
    """

    def __init__(
        self,
        network: Module,
        photos: Sequence[Inspected],
        labels: Labels,
        augmented: AugmentedReader,
        device: Device,
        seed: int,
    ) -> None:
        self.network = network.to(device.torch)
        self._photos, self._labels = photos, torch.from_numpy(labels)
        self._augmented, self._device, self._seed = augmented, device, seed
        self._trained = _last_parameters(network)
        self._optimizer = torch.optim.SGD(
            self._trained,
            lr=LEARNING_RATE,
            momentum=MOMENTUM,
            weight_decay=WEIGHT_DECAY,
            nesterov=True,
        )
        self._scaler = torch.amp.GradScaler(device.torch.type, enabled=device.is_gpu)

    def measure_epoch_s(self) -> float:
        """Time the second of two batches and estimate an epoch from it; nothing is changed."""
        batch = range(min(BATCH, len(self._photos)))
        for _ in range(2):
            started = time.monotonic()
            self._gradients(batch, 0)
        return (time.monotonic() - started) * len(self._photos) / len(batch)

    def run(
        self, epochs: int, score: Score, held_out: Labels, stored: Path, progress: Progress
    ) -> list[Epoch]:
        """Train, from the last stored epoch on.

        Args:
            epochs: how many in total.
            score: computes the logits of the held-out photos.
            held_out: their class indices.
            stored: the file of the last epoch.
            progress: gets a line for each epoch.
        """
        history = self._restore(load_state(stored))
        for number in range(len(history), epochs):
            with progress.bar(f"epoch {number + 1}/{epochs}", len(self._photos)) as advance:
                loss = self._train_epoch(number, epochs, advance)
            logits = score(self.network)
            top1 = float((logits.argmax(axis=1) == held_out).mean())
            history.append(Epoch(loss, log_loss(logits, held_out), top1))
            save_state(stored, self._state(history))
            progress.line(
                f"epoch {number + 1}/{epochs}: loss {loss:.3f}, held-out photos: log loss "
                f"{history[-1].held_out_loss:.3f}, top-1 {top1:.1%}"
            )
        return history

    def _train_epoch(self, number: int, epochs: int, advance: Callable[[int], object]) -> float:
        random = torch.Generator().manual_seed(self._seed_of(number, 0))
        order = torch.randperm(len(self._photos), generator=random).tolist()
        parts = batches(order, BATCH)
        total = 0.0
        for index, batch in enumerate(parts):
            done = (number + index / len(parts)) / epochs
            self._optimizer.param_groups[0]["lr"] = LEARNING_RATE * _schedule(done)
            loss, gradients = self._gradients(batch, number)
            for parameter, gradient in zip(self._trained, gradients, strict=True):
                parameter.grad = gradient
            self._scaler.step(self._optimizer)
            self._scaler.update()
            total += loss
            advance(len(batch))
        return total / len(self._photos)

    def _gradients(self, batch: Sequence[int], number: int) -> tuple[float, list[torch.Tensor]]:
        """The summed loss of a batch, and the gradients of its mean."""
        count = len(batch)
        seeds = [self._seed_of(number, 1 + index) for index in batch]
        views = self._device.map(
            lambda item: self._augmented(self._photos[item[0]], item[1]),
            zip(batch, seeds, strict=True),
        )
        images = torch.stack(list(views)).to(self._device.torch)
        labels = self._labels[list(batch)].to(self._device.torch)

        def compute(part: slice) -> tuple[float, tuple[torch.Tensor, ...]]:
            with torch.autocast(self._device.torch.type, torch.float16, self._device.is_gpu):
                logits = self.network(images[part])
            loss = torch.nn.functional.cross_entropy(
                logits.float(), labels[part], label_smoothing=LABEL_SMOOTHING, reduction="sum"
            )
            scaled: torch.Tensor = self._scaler.scale(loss / count)
            return float(loss.detach()), torch.autograd.grad(scaled, self._trained)

        size = BATCH if self._device.is_gpu else PART
        parts = [slice(start, start + size) for start in range(0, count, size)]
        results = list(self._device.map(compute, parts))
        gradients = [
            torch.stack(of_parts).sum(dim=0)
            for of_parts in zip(*(gradients for _, gradients in results), strict=True)
        ]
        return sum(loss for loss, _ in results), gradients

    def _seed_of(self, number: int, index: int) -> int:
        return (self._seed * 1_000_003 + number) * 10_000_019 + index

    def _state(self, history: list[Epoch]) -> dict[str, Any]:
        return {
            "history": [[epoch.loss, epoch.held_out_loss, epoch.top1] for epoch in history],
            "parameters": [parameter.detach().cpu() for parameter in self._trained],
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def _restore(self, state: dict[str, Any] | None) -> list[Epoch]:
        if state is None:
            return []
        with torch.no_grad():
            for parameter, stored in zip(self._trained, state["parameters"], strict=True):
                parameter.copy_(stored)
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        return [Epoch(*numbers) for numbers in state["history"]]


def _last_parameters(network: Module) -> list[torch.nn.Parameter]:
    """Choose the last parameters that make up TRAINED_SHARE, and freeze the others."""
    parameters = list(network.parameters())
    wanted = TRAINED_SHARE * sum(parameter.numel() for parameter in parameters)
    trained: list[torch.nn.Parameter] = []
    for parameter in reversed(parameters):
        is_trained = sum(p.numel() for p in trained) < wanted
        parameter.requires_grad_(is_trained)
        trained += [parameter] * is_trained
    return trained


def _schedule(done: float) -> float:
    """The share of the learning rate: a short rise, then half a cosine."""
    return min(1.0, (done + 0.01) / WARM_UP_SHARE) * (1 + math.cos(math.pi * done)) / 2
