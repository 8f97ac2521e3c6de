"""Mosec: preprocessing and batched inference in separate processes."""

import os

import numpy as np
from model import Model, answer, preprocess
from mosec import Server, Worker


class Preprocess(Worker):
    """Decode and resize."""

    def forward(self, data: dict) -> np.ndarray:
        """One image."""
        return preprocess(data["image"])


class Inference(Worker):
    """Run the model on batches."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()

    def forward(self, data: list) -> list:
        """One batch."""
        return [answer(scores) for scores in self.model.infer(np.stack(data))]


if __name__ == "__main__":
    cores = os.cpu_count() or 1
    server = Server()
    server.append_worker(Preprocess, num=cores)
    server.append_worker(Inference, num=cores, max_batch_size=8, max_wait_time=5)
    server.run()
