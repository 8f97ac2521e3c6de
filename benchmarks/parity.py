"""Served scores against each model's own transforms.

    .venv/bin/python -m benchmarks.parity

Six architectures get random weights with a fixed seed, are built with one command each,
served by a real server, and compared over HTTP with the transforms that torchvision or timm
gives for them on Pillow's pictures and the eager module, on the photos of the tests.

Two kinds of random weights. *Plain* are those that the constructor makes: the scores hardly
depend on the image, so they prove little but that the pipeline works. *Sensitive* take batch
statistics from the photos, and the last layer is scaled and shifted until the logits of the
classes differ by LOGIT_SPREAD from photo to photo: then small differences of pixels move
scores, and untrained features are not robust to them as trained ones are. The column
*pixels alone* is the eager module on the package's own preprocessing: what it leaves of the
difference is the engine's.
"""

import argparse
import base64
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.imaging.preprocess import FloatArray
from app.inference.engines.base import use_one_thread_per_operation
from app.inference.preparation import prepare_image
from app.packages.build.foreign import import_extra, import_own
from app.packages.build.reference import open_picture, reference_scores
from app.packages.package import load_package
from tests.support.server import Server

ROOT = Path(__file__).resolve().parent.parent
CLASSES = 20
LOGIT_SPREAD = 2.0
SEED = 0
LIMITS = {"fast": 0.005, "exact": 0.0005}
TORCHVISION = {
    "resnet18": "ResNet18_Weights.IMAGENET1K_V1",
    "mobilenet_v3_small": "MobileNet_V3_Small_Weights.IMAGENET1K_V1",
    "efficientnet_b0": "EfficientNet_B0_Weights.IMAGENET1K_V1",
    "vit_b_16": "ViT_B_16_Weights.IMAGENET1K_V1",
    "swin_t": "Swin_T_Weights.IMAGENET1K_V1",
}
TIMM = "resnet10t"
ORIENTED = ("Landscape_1.jpg", "Landscape_6.jpg", "Portrait_3.jpg", "Portrait_8.jpg")
HEAD = """\
| model | weights | resampling | same top class | top classes | largest difference | over the \
limit | pixels alone | worst photo | kept |
|---|---|---|---|---|---|---|---|---|---|"""


@dataclass(frozen=True)
class Case:
    """A model with its weights, and what it is to answer.

    Attributes:
        name: the architecture.
        weights: ``plain`` or ``sensitive``.
        model: the eager module.
        expected: scores of the reference, (photos, classes).
    """

    name: str
    weights: str
    model: torch.nn.Module
    expected: FloatArray

    def deploy_name(self, resampling: str) -> str:
        """The deploy name of the package with one kind of resampling."""
        return f"{self.name}-{self.weights}-{resampling}"


def photos() -> list[Path]:
    """The photos of the tests, four oriented ones, and Pillow's jpg files of distinct sizes."""
    chosen = [path for path in sorted((ROOT / "tests/photos").iterdir()) if path.suffix != ".md"]
    chosen += [ROOT / "tests/corpus/exif-orientation" / name for name in ORIENTED]
    seen = set()
    with (ROOT / "tests/corpus/manifest.csv").open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            size = (row["width"], row["height"])
            big = row["width"] and min(int(row["width"]), int(row["height"])) >= 100
            fit = row["path"].startswith("pillow/") and row["magic"] == "jpeg" and big
            if row["expect"] == "ok" and fit and size not in seen:
                seen.add(size)
                chosen.append(ROOT / "tests/corpus" / row["path"])
    return chosen


def make(name: str) -> tuple[torch.nn.Module, Any]:
    """Make the eager module with random weights, and its own transforms."""
    torch.manual_seed(SEED)
    if name == TIMM:
        timm = import_own("timm", "this benchmark")
        model = timm.create_model(name, pretrained=False, num_classes=CLASSES)
        config = timm.data.resolve_data_config({}, model=model)
        return model, timm.data.create_transform(**config, is_training=False)
    models = import_extra("torchvision", "this benchmark").models
    model = models.get_model(name, weights=None, num_classes=CLASSES)
    return model, models.get_weight(TORCHVISION[name]).transforms()


def make_sensitive(model: torch.nn.Module, inputs: torch.Tensor) -> None:
    """Take batch statistics from the inputs and spread the logits over them."""
    with torch.no_grad():
        norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = None  # a plain mean
            norm.reset_running_stats()
        if norms:
            model.train()(inputs)
        model.eval()
        last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
        # Some heads are initialised with zeros, such as that of ViT.
        torch.nn.init.normal_(last.weight, std=0.02)
        logits = model(inputs)
        factor = LOGIT_SPREAD / float(logits.std(dim=0).mean())
        last.weight.mul_(factor)
        last.bias.mul_(factor).sub_(logits.mean(dim=0) * factor)


def cases(
    files: list[Path], folder: Path, names: Sequence[str], kinds: Sequence[str]
) -> Iterator[Case]:
    """Make the models with each kind of weights, and save their checkpoints."""
    pictures = [open_picture(file.read_bytes(), file.name, "exif") for file in files]
    for name in names:
        for weights in kinds:
            model, transform = make(name)
            inputs = torch.stack([transform(picture) for picture in pictures])
            if weights == "sensitive":
                make_sensitive(model, inputs)
            model.eval()
            torch.save({"state_dict": model.state_dict()}, folder / f"{name}-{weights}.pt")
            yield Case(
                name, weights, model, reference_scores(model, inputs, "logits", "single_label")
            )


def build(case: Case, resampling: str, folder: Path) -> None:
    """Build a package with one command."""
    source = ["--factory", "timm:create_model", "--timm-config", "model", "--factory-args"]
    source += [json.dumps({"model_name": case.name, "num_classes": CLASSES})]
    if case.name != TIMM:
        source = ["--torchvision", case.name, "--weights-enum", TORCHVISION[case.name]]
    command = [sys.executable, "-m", "app.cli", "package", "build", case.deploy_name(resampling)]
    command += ["1", *source, "--checkpoint", str(folder / f"{case.name}-{case.weights}.pt")]
    command += ["--labels", str(folder / "labels.txt"), "--weights-dir", str(folder / "weights")]
    command += ["--resampling", resampling]
    if case.weights == "sensitive":
        # The comparison reports the difference; the builder must not refuse it.
        command += ["--tolerance", "0.05"]
    subprocess.run(command, check=True, cwd=ROOT, stdout=sys.stderr, stderr=sys.stderr)


def served(server: Server, name: str, files: list[Path]) -> FloatArray:
    """Scores over HTTP, (files, classes)."""
    rows = []
    for file in files:
        body = {"image": base64.b64encode(file.read_bytes()).decode(), "top_num": CLASSES}
        results = server.classify(name, body).json["results"]
        by_label = {result["name"]: result["score"] for result in results}
        rows.append([by_label[f"class {index}"] for index in range(CLASSES)])
    return np.array(rows, np.float32)


def of_pixels(case: Case, folder: Path, files: list[Path]) -> FloatArray:
    """Scores of the eager module on the package's own preprocessing, (files, classes)."""
    package = load_package(folder)
    images = [prepare_image(file.read_bytes(), package)[1] for file in files]
    inputs = torch.from_numpy(np.stack(images))
    return reference_scores(case.model, inputs, "logits", "single_label")


def compare(case: Case, resampling: str, server: Server, folder: Path, files: list[Path]) -> bool:
    """Print a row of the table, and return whether the limit is kept."""
    name, limit = case.deploy_name(resampling), LIMITS[resampling]
    found = served(server, name, files)
    difference = np.abs(found - case.expected).max(axis=1)
    package = folder / "weights" / name / "1"
    pixels = np.abs(of_pixels(case, package, files) - case.expected).max()
    top = case.expected.argmax(axis=1)
    same = int((found.argmax(axis=1) == top).sum())
    kept = same == len(files) and float(difference.max()) <= limit
    over = int((difference > limit).sum())
    print(
        f"| {case.name} | {case.weights} | {resampling} | {same} of {len(files)} "
        f"| {len(set(top.tolist()))} | {difference.max():.6f} | {over} | {pixels:.6f} "
        f"| {files[int(difference.argmax())].name} | {'yes' if kept else 'no'} |",
        flush=True,
    )
    return kept


def main() -> int:
    """Print the table, and fail when a limit is not kept with plain weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=[*TORCHVISION, TIMM])
    parser.add_argument("--weights", nargs="+", default=["plain", "sensitive"])
    options = parser.parse_args()
    use_one_thread_per_operation()
    files = photos()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "labels.txt").write_text("".join(f"class {i}\n" for i in range(CLASSES)))
        made = list(cases(files, folder, options.models, options.weights))
        for case in made:
            for resampling in LIMITS:
                build(case, resampling, folder)
        print(f"{len(files)} photos, {CLASSES} classes, limits {LIMITS}\n")
        print(HEAD)
        with Server(folder / "weights", folder) as server:
            kept = [
                compare(case, resampling, server, folder, files) or case.weights != "plain"
                for resampling in LIMITS
                for case in made
            ]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
