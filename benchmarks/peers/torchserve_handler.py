"""What TorchServe's workers run: the module that torch-model-archiver packs."""

import json

import numpy as np
from model import Model, answer, preprocess


class Classifier:
    """A custom handler: the steps of a request, as TorchServe names them."""

    def __init__(self) -> None:
        self.model = None

    def initialize(self, context: object) -> None:
        """Load the model in each worker."""
        self.model = Model()

    def handle(self, data: list, context: object) -> list:
        """Classify a batch."""
        bodies = [row.get("body") or row.get("data") for row in data]
        requests = [body if isinstance(body, dict) else json.loads(body) for body in bodies]
        images = np.stack([preprocess(request["image"]) for request in requests])
        return [answer(scores) for scores in self.model.infer(images)]
