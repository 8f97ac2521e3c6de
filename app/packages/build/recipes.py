"""Sources that bring their labels, preprocessing and kind of output along."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.packages.build import huggingface
from app.packages.build.models import Source, read_torchscript
from app.packages.build.onnx_source import OnnxModule
from app.packages.build.presets import Preset
from app.packages.build.yolo import OPTION, read_yolo_export


@dataclass(frozen=True)
class Recipe:
    """What a source says about its model.

    Attributes:
        option: the option that names the source.
        labels: returns the labels, by class index.
        preset: returns the preprocessing for a kind of resampling.
        kind: ``logits`` or ``probabilities``.
        task: ``single_label`` or ``multi_label``.
    """

    option: str
    source: Source
    labels: Callable[[], list[str]]
    preset: Callable[[str], Preset]
    kind: str
    task: str


def huggingface_recipe(folder: Path) -> Recipe:
    """Describe a folder of transformers.

    Raises:
        OperatorError: it has no configuration.
    """
    config = huggingface.read_config(folder)
    return Recipe(
        huggingface.OPTION,
        Source(lambda classes: huggingface.load_model(folder, classes)),
        lambda: huggingface.labels_of(config, folder),
        lambda resampling: huggingface.preset_from_processor(folder, resampling),
        "logits",
        huggingface.task_of(config),
    )


def ultralytics_recipe(path: Path) -> Recipe:
    """Describe an export of Ultralytics.

    Raises:
        OperatorError: it is no export of a classifier.
    """
    export = read_yolo_export(path)
    is_onnx = path.suffix.lower() == ".onnx"
    source = Source(lambda _: OnnxModule(path, None) if is_onnx else read_torchscript(path, OPTION))
    # The softmax is part of every export.
    return Recipe(
        OPTION, source, lambda: export.labels, export.preset, "probabilities", "single_label"
    )
