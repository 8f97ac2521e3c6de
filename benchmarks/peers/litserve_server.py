"""LitServe with dynamic batching and one worker for each core."""

import os
import sys

import litserve
import numpy as np
from model import Model, answer, preprocess


class Api(litserve.LitAPI):
    """The steps of a request, as LitServe names them."""

    def setup(self, device: str) -> None:
        """Load the model in each worker."""
        self.model = Model()

    def decode_request(self, request: dict) -> np.ndarray:
        """Preprocess one image."""
        return preprocess(request["image"])

    def batch(self, inputs: list) -> np.ndarray:
        """Stack the images of a batch."""
        return np.stack(inputs)

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """Run the model."""
        return self.model.infer(batch)

    def unbatch(self, output: np.ndarray) -> list:
        """Split the scores of a batch."""
        return list(output)

    def encode_response(self, output: np.ndarray) -> dict:
        """Build the response of one image."""
        return answer(output)


if __name__ == "__main__":
    server = litserve.LitServer(
        Api(max_batch_size=8, batch_timeout=0.005),
        accelerator="cpu",
        workers_per_device=os.cpu_count() or 1,
    )
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
