"""The features of the photos, computed once and kept in the work folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from app.errors import ApiError, OperatorError
from app.evaluation.dataset import read_image
from app.imaging.decode import decode
from app.imaging.guard import guard
from app.imaging.preprocess import Preprocessor
from app.inference.engines.base import FloatArray
from app.packages.manifest import parse_preprocess
from app.training.backbone import Backbone
from app.training.device import Device, batches
from app.training.inspection import Inspected
from app.training.progress import Progress
from app.training.work import load_features, save_features

_SAVED_TOGETHER = 64


def compute_features(
    backbone: Backbone,
    photos: Sequence[Inspected],
    device: Device,
    folder: Path,
    progress: Progress,
) -> FloatArray:
    """Compute the features of photos through the server's own guard, decoder and preprocessing.

    Args:
        backbone: the network.
        photos: from inspect_photos.
        device: where to compute.
        folder: of this backbone's features; an interrupted run goes on with what is there.
        progress: shown a bar.

    Returns:
        float32 (photos, width), in the order of the photos.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = load_features(folder)
    missing = list({p.sha256: p for p in photos if p.sha256 not in known}.values())
    read = InputReader(backbone)
    network = backbone.network.to(device.torch)

    def features_of(part: Sequence[Inspected]) -> FloatArray:
        images = torch.from_numpy(np.stack([read(photo) for photo in part])).to(device.torch)
        with torch.inference_mode():
            features: FloatArray = network(images).float().cpu().numpy()
        return features

    size = 32 if device.is_gpu else 1
    with progress.bar("features", len(photos), done=len(photos) - len(missing)) as advance:
        for part in batches(missing, _SAVED_TOGETHER):
            rows = []
            for row in device.map(features_of, batches(part, size)):
                rows.append(row)
                advance(len(row))
            digests = [photo.sha256 for photo in part]
            save_features(folder / f"{digests[0]}.npz", digests, np.concatenate(rows))
            known |= zip(digests, np.concatenate(rows), strict=True)
    found = np.stack([known[photo.sha256] for photo in photos])
    if found.shape[1:] != (backbone.width,):
        raise OperatorError(
            f"{backbone.name}: the network returns {found.shape[1:]} values for a photo, expected "
            f"{backbone.width}; take an architecture that ends with one linear layer"
        )
    return found


class InputReader:
    """Makes the model's input of a photo as the server does; thread-safe."""

    def __init__(self, backbone: Backbone) -> None:
        self._preprocess = Preprocessor(parse_preprocess(backbone.steps, backbone.name))

    def __call__(self, photo: Inspected) -> FloatArray:
        """Read a photo; float32 (C, height, width).

        Raises:
            OperatorError: it has changed since it was inspected.
        """
        try:
            header, data = guard(read_image(photo.photo.path))
            return self._preprocess(decode(header, data))
        except ApiError as exc:
            raise OperatorError(f"{photo.photo.path} has changed: {exc.detail}") from exc
