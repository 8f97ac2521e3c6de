"""What a model's output means: how many classes it has, and whether it is probabilities."""

from collections.abc import Sequence

import torch

from app.errors import OperatorError
from app.packages.build.script import torch_reason
from app.packages.probabilities import find_probability_problem
from app.reporting.counts import pluralise

Module = torch.nn.Module

_FEW_NUMBERS = 10
"""So few logits may all be between 0 and 1 by chance."""


class TwoClasses(Module):
    """Turns the one output of a binary model into two: ``z`` into the logits ``(0, z)``.

    softmax((0, z)) is (1 - sigmoid(z), sigmoid(z)), so the scores stay the same. A
    probability ``p`` becomes ``(1 - p, p)``. The binary model returns (N, 1) or (N,).
    """

    def __init__(self, model: Module, kind: str, positive: int) -> None:
        super().__init__()
        self.model = model
        self.logits = kind == "logits"
        self.positive = positive

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute (N, 2)."""
        positive = self.model(images).reshape(-1, 1)
        negative = torch.zeros_like(positive) if self.logits else 1 - positive
        pair = [negative, positive] if self.positive == 1 else [positive, negative]
        return torch.cat(pair, dim=1)


def require_classes(labels: Sequence[str], task: str) -> None:
    """Refuse a single class that excludes no other: its score would always be 1.

    Raises:
        OperatorError: there is one label, and the task is ``single_label``.
    """
    if len(labels) == 1 and task == "single_label":
        raise OperatorError(
            f"the only label, {labels[0]!r}, would always have the score 1: give --task "
            "multi_label, which scores it by itself, or a second label for everything else"
        )


def fit_outputs(
    model: Module,
    images: torch.Tensor,
    labels: Sequence[str],
    output: tuple[str, str],
    positive: str | None,
) -> Module:
    """Check the shape of a model's output, and add the second class of a binary model.

    Args:
        model: the eager module.
        images: float32 (N, C, H, W), preprocessed.
        labels: by class index.
        output: its kind and task.
        positive: the label that the one output of a binary model is the score of.

    Raises:
        OperatorError: the model fails on the input, or does not return one tensor
            (N, classes).
    """
    try:
        with torch.inference_mode():
            found = model(images[:1])
    except Exception as exc:
        raise OperatorError(
            f"the model fails on an input of shape {tuple(images[:1].shape)}, made by the "
            f"preprocessing: {type(exc).__name__}: {torch_reason(exc)}"
        ) from exc
    if not isinstance(found, torch.Tensor):
        raise OperatorError(
            f"the model returns a {type(found).__name__}, expected one tensor (N, classes); "
            "wrap it in a --factory of your own that returns the tensor"
        )
    shape = tuple(found.shape)
    if len(labels) == 2 and shape in ((1, 1), (1,)):
        return TwoClasses(model, output[0], _positive_index(labels, output[1], positive)).eval()
    if shape != (1, len(labels)):
        raise OperatorError(
            f"the model returns the shape {shape} for 1 image, "
            f"expected {(1, len(labels))}: the package has {pluralise(len(labels), 'label')}"
        )
    if positive is not None:
        raise OperatorError("--positive is for a model with one output and two labels")
    return model


def _positive_index(labels: Sequence[str], task: str, positive: str | None) -> int:
    if positive is None:
        raise OperatorError(
            f"the model has one output for two labels: say which of them it scores, --positive "
            f"{labels[0]!r} or --positive {labels[1]!r}; in training, that label was 1"
        )
    if positive not in labels:
        raise OperatorError(f"--positive {positive!r} is none of the labels {', '.join(labels)}")
    if task == "multi_label":
        raise OperatorError(
            "--positive makes two classes that exclude each other: omit --task multi_label, or "
            "give only one label"
        )
    return labels.index(positive)


def check_meaning(model: Module, images: torch.Tensor, kind: str | None, task: str) -> None:
    """Check that the outputs can be what they are declared as.

    Args:
        model: from fit_outputs.
        images: as there.
        kind: as declared; None if nobody said anything.
        task: of the model.

    Raises:
        OperatorError: outputs declared as probabilities are none, or outputs that nobody
            declared look like probabilities.
    """
    with torch.inference_mode():
        outputs = torch.cat([model(image) for image in torch.split(images, 1)]).float()
    if kind == "probabilities":
        problems = (find_probability_problem(row, task) for row in outputs.numpy())
        if problem := next(filter(None, problems), ""):
            raise OperatorError(
                f"--output-kind probabilities: {problem}; give --output-kind logits, or "
                "--task multi_label if several labels can be true of an image"
            )
    elif kind is None and _look_like_probabilities(outputs, task):
        what = "sum to 1" if task == "single_label" else "are at most 1"
        step = "a softmax" if task == "single_label" else "the logistic function"
        raise OperatorError(
            f"the outputs are not negative and {what}, as probabilities do, and the server would "
            f"apply {step} to them once more: give --output-kind probabilities if the model ends "
            f"with {step}, as exports of YOLO do, or --output-kind logits if it does not"
        )


def _look_like_probabilities(outputs: torch.Tensor, task: str) -> bool:
    if task == "multi_label":
        is_unit = bool(((outputs >= 0) & (outputs <= 1)).all())
        return is_unit and outputs.numel() >= _FEW_NUMBERS
    sums = outputs.sum(dim=1)
    return bool((outputs >= 0).all()) and bool(((sums - 1).abs() <= 1e-3).all())
