"""Plain Flask for gunicorn's threads, with one OpenVINO model that all of them share."""

from queue import SimpleQueue

import numpy as np
import openvino
import orjson
import torch
from flask import Flask, Response, request
from model import MODEL, answer, preprocess

app = Flask(__name__)


# On some processors OpenVINO computes in bfloat16 unless told otherwise, which moves scores.
HINTS = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}


def make_pool() -> SimpleQueue:
    """Compile the model for throughput, with as many infer requests as OpenVINO advises."""
    module = torch.jit.load(MODEL).eval()
    model = openvino.convert_model(module, input=[1, 3, 224, 224])
    compiled = openvino.Core().compile_model(model, "CPU", HINTS)
    pool = SimpleQueue()
    for _ in range(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")):
        pool.put(compiled.create_infer_request())
    return pool


pool = make_pool()


def infer(image: np.ndarray) -> np.ndarray:
    """Run the model: float32 (3, 224, 224) to scores (1000,)."""
    infer_request = pool.get()
    try:
        logits = infer_request.infer(image[None], share_inputs=True)[0][0]
    finally:
        pool.put(infer_request)
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


@app.post("/predict")
def predict() -> Response:
    """Classify one image."""
    image = preprocess(orjson.loads(request.get_data())["image"])
    return Response(orjson.dumps(answer(infer(image))), content_type="application/json")
