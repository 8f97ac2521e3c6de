"""What a model's output means: how many classes it has, and whether it is probabilities."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from app.errors import OperatorError
from app.packages.build.onnx_source import OnnxModule
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


class SelectedOutput(Module):
    """Returns one output of a model that returns several, in a tuple, a dict or an object."""

    def __init__(self, model: Module, key: str) -> None:
        super().__init__()
        self.model = model
        self.key = key

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the chosen output."""
        return _outputs_by_key(self.model(images))[self.key]


def select_output(model: Module, images: torch.Tensor, key: str | None) -> Module:
    """Reduce a model that returns several tensors to the one under a key.

    Args:
        model: the eager module, or an ONNX file.
        images: float32 (N, C, H, W), preprocessed.
        key: a key of the dict, an attribute of the object (a named tuple, or ``ModelOutput`` of
            transformers), or an index; None if there is one output only.

    Raises:
        OperatorError: the model fails on the input, or has no such output, or several and no
            key is given.
    """
    if isinstance(model, OnnxModule):
        model.select_output(_choose(model.outputs, key))
        return model
    found = _run(model, images)
    if isinstance(found, torch.Tensor):
        if key is not None:
            raise OperatorError("--output-key is for a model with several outputs; this has one")
        return model
    outputs = _outputs_by_key(found)
    if not outputs:
        raise OperatorError(
            f"the model returns a {type(found).__name__}, expected one tensor (N, classes); "
            "wrap it in a --factory of your own that returns the tensor"
        )
    shapes = {name: str(tuple(tensor.shape)) for name, tensor in outputs.items()}
    return SelectedOutput(model, _choose(shapes, key)).eval()


def _choose(outputs: Mapping[str, str], key: str | None) -> str:
    """Choose one of the outputs, each with its description, by its key or because it is alone."""
    shown = ", ".join(map(" ".join, outputs.items()))
    if key is None and len(outputs) > 1:
        raise OperatorError(f"the model has several outputs, choose one with --output-key: {shown}")
    chosen = next(iter(outputs)) if key is None else key
    if chosen not in outputs:
        raise OperatorError(f"--output-key {key!r} is none of the model's outputs: {shown}")
    return chosen


def _outputs_by_key(found: Any) -> dict[str, torch.Tensor]:
    """The tensors that a model returns; those of a tuple by index, or by name if it has names."""
    if isinstance(found, Mapping):
        pairs = [(str(key), value) for key, value in found.items()]
    elif isinstance(found, tuple | list):
        names = getattr(found, "_fields", range(len(found)))
        pairs = [(str(key), value) for key, value in zip(names, found, strict=True)]
    else:
        pairs = list(getattr(found, "__dict__", {}).items())
    return {key: value for key, value in pairs if isinstance(value, torch.Tensor)}


def _run(model: Module, images: torch.Tensor) -> Any:
    try:
        with torch.inference_mode():
            return model(images[:1])
    except Exception as exc:
        if isinstance(exc, OperatorError):
            raise
        raise OperatorError(
            f"the model fails on an input of shape {tuple(images[:1].shape)}, made by the "
            f"preprocessing: {type(exc).__name__}: {torch_reason(exc)}"
        ) from exc


def fit_outputs(
    model: Module,
    images: torch.Tensor,
    labels: Sequence[str],
    output: tuple[str, str],
    positive: str | None,
) -> Module:
    """Check the shape of a model's output, and add the second class of a binary model.

    Args:
        model: from select_output.
        images: float32 (N, C, H, W), preprocessed.
        labels: by class index.
        output: its kind and task.
        positive: the label that the one output of a binary model is the score of.

    Raises:
        OperatorError: the model fails on the input, or does not return (N, classes).
    """
    shape = tuple(_run(model, images).shape)
    if len(labels) == 2 and shape in ((1, 1), (1,)):
        index = _positive_index(labels, output[1], positive)
        if isinstance(model, OnnxModule):
            return model.with_second_class(output[0], index)
        return TwoClasses(model, output[0], index).eval()
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
