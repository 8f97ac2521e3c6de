"""Served scores against each model's own transforms: ``python benchmarks/parity.py``.

Six architectures get random weights with a fixed seed, are built with one command each,
served by a real server, and compared with the transforms that torchvision or timm gives for
them and the eager module, on the photos of the tests.

Random weights alone would prove little: every image gets the same nearly uniform scores.
So batch statistics are taken from the photos, and the last layer is scaled and shifted
until the logits of the classes differ by LOGIT_SPREAD from photo to photo; then small
differences of pixels move scores about as they do in a trained network.
"""

import base64
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.packages.build.foreign import import_torchvision
from app.packages.build.reference import open_picture, reference_scores
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


def photos() -> list[Path]:
    """The photos of the tests, and the jpg files of the corpus of distinct sizes."""
    chosen = [path for path in sorted((ROOT / "tests/photos").iterdir()) if path.suffix != ".md"]
    seen = set()
    with (ROOT / "tests/corpus/manifest.csv").open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            size = (row["width"], row["height"])
            big = row["width"] and min(int(row["width"]), int(row["height"])) >= 100
            if row["expect"] == "ok" and row["magic"] == "jpeg" and big and size not in seen:
                seen.add(size)
                chosen.append(ROOT / "tests/corpus" / row["path"])
    return chosen


def make(name: str) -> tuple[torch.nn.Module, Any]:
    """The eager module with random weights, and its own transforms."""
    torch.manual_seed(SEED)
    if name == TIMM:
        import timm

        model = timm.create_model(name, pretrained=False, num_classes=CLASSES)
        config = timm.data.resolve_data_config({}, model=model)
        return model, timm.data.create_transform(**config, is_training=False)
    models = import_torchvision("this benchmark").models
    model = models.get_model(name, weights=None, num_classes=CLASSES)
    return model, models.get_weight(TORCHVISION[name]).transforms()


def make_sensitive(model: torch.nn.Module, inputs: torch.Tensor) -> None:
    """Take batch statistics from the inputs and spread the logits over them."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # a plain mean
                module.reset_running_stats()
        model.train()(inputs)
        model.eval()
        last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
        # Some heads begin as zeros, ViT's for one.
        torch.nn.init.normal_(last.weight, std=0.02)
        logits = model(inputs)
        factor = LOGIT_SPREAD / float(logits.std(dim=0).mean())
        last.weight.mul_(factor)
        last.bias.mul_(factor).sub_(logits.mean(dim=0) * factor)


def build(name: str, resampling: str, folder: Path) -> None:
    """Build a package with one command."""
    source = ["--factory", "timm:create_model", "--timm-config", "model"]
    source += ["--factory-args", json.dumps({"model_name": name, "num_classes": CLASSES})]
    if name != TIMM:
        source = ["--torchvision", name, "--weights-enum", TORCHVISION[name]]
    command = [str(Path(sys.executable).parent / "classifyd"), "package", "build"]
    command += [f"{name}-{resampling}", "1", *source, "--resampling", resampling]
    command += ["--checkpoint", str(folder / f"{name}.pt"), "--labels", str(folder / "labels.txt")]
    # What a swapped filter costs is not in question here; the comparison below judges.
    command += ["--weights-dir", str(folder / "weights"), "--tolerance", "0.05"]
    subprocess.run(command, check=True)


def served(server: Server, name: str, files: list[Path]) -> np.ndarray[Any, Any]:
    """Scores over HTTP, (files, classes)."""
    rows = []
    for file in files:
        body = {"image": base64.b64encode(file.read_bytes()).decode(), "top_num": CLASSES}
        results = server.classify(name, body).json["results"]
        by_label = {result["name"]: result["score"] for result in results}
        rows.append([by_label[f"class {index}"] for index in range(CLASSES)])
    return np.array(rows)


def main() -> int:
    """Print a line for each package; fail when a limit is not kept."""
    files, kept = photos(), True
    sys.stdout.write(f"{len(files)} photos, {CLASSES} classes\n")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "labels.txt").write_text("".join(f"class {i}\n" for i in range(CLASSES)))
        expected = {}
        for name in [*TORCHVISION, TIMM]:
            model, transform = make(name)
            pictures = [open_picture(file.read_bytes(), file.name) for file in files]
            inputs = torch.stack([transform(picture) for picture in pictures])
            make_sensitive(model, inputs)
            torch.save({"state_dict": model.state_dict()}, folder / f"{name}.pt")
            expected[name] = reference_scores(model, inputs, "logits", "single_label")
            for resampling in LIMITS:
                build(name, resampling, folder)
        with Server(folder / "weights", folder) as server:
            for name, scores in expected.items():
                for resampling, limit in LIMITS.items():
                    kept &= compare(name, resampling, limit, scores, server, files)
    return 0 if kept else 1


def compare(
    name: str,
    resampling: str,
    limit: float,
    expected: np.ndarray[Any, Any],
    server: Server,
    files: list[Path],
) -> bool:
    """Print how far the served scores are from the expected ones."""
    found = served(server, f"{name}-{resampling}", files)
    difference = np.abs(found - expected).max(axis=1)
    logit_difference = np.abs(np.log(found) - np.log(expected)).max()
    same = int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
    worst = int(difference.argmax())
    sys.stdout.write(
        f"{name:<20}{resampling:<7}same top {same} of {len(files)} "
        f"({len(set(expected.argmax(axis=1).tolist()))} different), largest difference of a score "
        f"{difference.max():.6f} (limit {limit}; {files[worst].name}), "
        f"of its logarithm {logit_difference:.5f}\n"
    )
    return same == len(files) and bool(difference.max() <= limit)


if __name__ == "__main__":
    sys.exit(main())
