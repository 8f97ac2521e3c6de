"""The demo model as the documentation of the peers would load it: TorchScript and Pillow."""

import base64
import io
import os

import numpy as np
import torch
from PIL import Image

MODEL = os.environ["BENCH_MODEL"]
LABELS = open(os.environ["BENCH_LABELS"], encoding="utf-8").read().splitlines()  # noqa: SIM115


def preprocess(text: str) -> np.ndarray:
    """Base64 of an image file to float32 (3, 224, 224)."""
    image = Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")
    side = int(0.875 * min(image.size))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side)).resize((224, 224), Image.BICUBIC)
    pixels = (np.asarray(square, dtype=np.float32) - 127) / 128
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


class Model:
    """The frozen TorchScript file."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        module = torch.jit.load(MODEL).eval()
        self._module = torch.jit.optimize_for_inference(torch.jit.freeze(module))
        for size in range(1, 9):
            for _ in range(3):
                self.infer(np.zeros((size, 3, 224, 224), np.float32))

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """Run it: float32 (N, 3, 224, 224) to scores (N, 1000)."""
        with torch.inference_mode():
            return torch.softmax(self._module(torch.from_numpy(batch)), dim=1).numpy()


def answer(scores: np.ndarray) -> dict:
    """The six best classes."""
    order = np.argsort(-scores)[:6]
    return {"results": [{"name": LABELS[i], "score": float(scores[i])} for i in order]}
