"""BentoML: a batchable model service in one worker for each core."""

import os

import bentoml
import numpy as np
from model import Model, answer, preprocess


@bentoml.service(workers=os.cpu_count() or 1, traffic={"timeout": 60, "max_concurrency": 256})
class Classifier:
    """The demo model."""

    def __init__(self) -> None:
        self.model = Model()

    @bentoml.api(batchable=True, max_batch_size=8, max_latency_ms=5000)
    def predict(self, image: list[str]) -> list[dict]:
        """Classify a batch."""
        scores = self.model.infer(np.stack([preprocess(text) for text in image]))
        return [answer(row) for row in scores]
