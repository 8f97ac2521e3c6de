"""Flask's development server, threaded, as ``flask run`` starts it."""

import sys

from flask import Flask, request
from model import Model, answer, preprocess

app = Flask(__name__)
model = Model()


@app.post("/predict")
def predict() -> dict:
    """Classify one image."""
    image = preprocess(request.get_json()["image"])
    return answer(model.infer(image[None])[0])


if __name__ == "__main__":
    app.run(port=int(sys.argv[1]), threaded=True)
