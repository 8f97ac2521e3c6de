"""Makes the ONNX files of this folder, each by the library that people export with.

    python make.py keras|tf2onnx|paddle|sklearn|torch|azure

Beside each file is what the library itself computes for three photos of ``tests/photos``, resized
by Pillow: NAME.json holds the options of ``classifyd package build`` and the scores. README.md says
which packages are needed. The weights are random, and large enough that the photos differ.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).resolve().parent
PHOTOS = ("coffee.jpg", "chelsea.png", "rocket.jpg")
SIDE, CLASSES = 32, 4


def pixels(side: int = SIDE) -> np.ndarray:
    """Resize the photos as Pillow does, uint8 (photos, side, side, 3)."""
    pictures = (Image.open(FOLDER.parents[1] / "photos" / name) for name in PHOTOS)
    sized = (each.convert("RGB").resize((side, side), Image.BILINEAR) for each in pictures)
    return np.stack([np.asarray(each) for each in sized])


def weights(*shape: int, scale: float, seed: int) -> np.ndarray:
    """Random weights, the same on every run."""
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


def write(name: str, options: list[str], scores: np.ndarray, *packages: str) -> None:
    """Write NAME.json beside NAME.onnx."""
    document = {
        "made_with": {package: version(package) for package in ("pillow", *packages)},
        "options": options,
        "scores": {
            photo: [round(float(score), 7) for score in row]
            for photo, row in zip(PHOTOS, scores, strict=True)
        },
    }
    (FOLDER / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


def keras_model():
    """A network on NHWC pixels 0 to 255, which scales them itself and ends in a softmax."""
    import keras

    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            keras.layers.Rescaling(1 / 127.5, offset=-1),
            keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
            keras.layers.AveragePooling2D(4),
            keras.layers.Flatten(),
            keras.layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    model.layers[1].set_weights([weights(3, 3, 3, 8, scale=0.5, seed=1), np.zeros(8, np.float32)])
    model.layers[4].set_weights(
        [weights(128, CLASSES, scale=0.3, seed=2), np.zeros(CLASSES, np.float32)]
    )
    return model


def make_keras() -> None:
    """Keras 3's own export."""
    model = keras_model()
    scores = model.predict(pixels().astype(np.float32), verbose=0)
    model.export(str(FOLDER / "keras.onnx"), format="onnx")
    options = ["--scale", "none", "--output-kind", "probabilities"]
    write("keras", options, scores, "keras", "tensorflow-cpu", "tf2onnx")


def make_tf2onnx() -> None:
    """tf2onnx, with bytes as input."""
    import tensorflow as tf
    import tf2onnx

    model = keras_model()

    @tf.function(input_signature=[tf.TensorSpec([None, SIDE, SIDE, 3], tf.uint8, "image")])
    def serve(image):
        return {"probabilities": model(tf.cast(image, tf.float32))}

    tf2onnx.convert.from_function(
        serve, input_signature=serve.input_signature, output_path=str(FOLDER / "tf2onnx.onnx")
    )
    scores = serve(tf.constant(pixels()))["probabilities"].numpy()
    options = ["--scale", "none", "--output-kind", "probabilities"]
    write("tf2onnx", options, scores, "tensorflow-cpu", "tf2onnx")


def make_paddle() -> None:
    """paddle2onnx."""
    import paddle

    model = paddle.nn.Sequential(
        paddle.nn.Conv2D(3, 8, 3, stride=2, padding=1),
        paddle.nn.ReLU(),
        paddle.nn.AvgPool2D(4),
        paddle.nn.Flatten(),
        paddle.nn.Linear(128, CLASSES),
    )
    model[0].weight.set_value(weights(8, 3, 3, 3, scale=0.5, seed=1))
    model[0].bias.set_value(np.zeros(8, np.float32))
    model[4].weight.set_value(weights(128, CLASSES, scale=0.3, seed=2))
    model[4].bias.set_value(np.zeros(CLASSES, np.float32))
    model.eval()
    spec = paddle.static.InputSpec([None, 3, SIDE, SIDE], "float32", "x")
    paddle.onnx.export(model, str(FOLDER / "paddle"), input_spec=[spec], opset_version=13)
    mean, std = (np.float32(each) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    images = ((pixels() / np.float32(255) - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    scores = paddle.nn.functional.softmax(model(paddle.to_tensor(images))).numpy()
    options = ["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]
    write("paddle", options, scores, "paddlepaddle", "paddle2onnx")


def make_sklearn() -> None:
    """skl2onnx: a classifier on pixels as numpy flattens them, also with its default output."""
    from skl2onnx import to_onnx
    from sklearn.neural_network import MLPClassifier

    side = 8
    images = pixels(side).reshape(len(PHOTOS), -1).astype(np.float32) / 255
    noise = np.random.default_rng(0).random((200, images.shape[1]), np.float32)
    given = np.concatenate([images, noise])
    labels = np.concatenate([np.arange(len(PHOTOS)), np.arange(200) % CLASSES])
    model = MLPClassifier((16,), random_state=0, max_iter=60).fit(given, labels)
    keys = {"sklearn": "probabilities", "sklearn-maps": "output_probability"}
    for name, key in keys.items():
        choice = {"options": {"zipmap": False}} if name == "sklearn" else {}
        exported = to_onnx(model, given[:1], target_opset=17, **choice)
        (FOLDER / f"{name}.onnx").write_bytes(exported.SerializeToString())
        options = ["--output-key", key, "--layout", "NHWC", "--output-kind", "probabilities"]
        write(name, options, model.predict_proba(images), "scikit-learn", "skl2onnx")


def torch_model():
    """The same network for torch, without a softmax."""
    import torch

    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.AvgPool2d(4),
        torch.nn.Flatten(),
        torch.nn.Linear(128, CLASSES),
    )
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor(weights(8, 3, 3, 3, scale=0.5, seed=1)))
        model[4].weight.copy_(torch.tensor(weights(CLASSES, 128, scale=0.3, seed=2)))
        model[0].bias.zero_()
        model[4].bias.zero_()
    return model.eval()


def make_torch() -> None:
    """torch.onnx.export with its weights in another file."""
    import torch

    model = torch_model()
    images = torch.tensor(pixels()).permute(0, 3, 1, 2) / 255
    batch = {0: torch.export.Dim("batch")}
    torch.onnx.export(
        model, (images,), FOLDER / "torch.onnx", dynamo=True, dynamic_shapes=(batch,),
        external_data=True,
    )  # fmt: skip
    with torch.inference_mode():
        scores = model(images).softmax(dim=1).numpy()
    write("torch", [], scores, "torch", "onnxscript")


def make_azure() -> None:
    """What Azure's Custom Vision exported: BGR from 0 to 255, one image, a softmax inside."""
    import torch

    class Azure(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = torch_model()

        def forward(self, data: torch.Tensor) -> torch.Tensor:
            return self.model(data / 127.5 - 1).softmax(dim=1)

    images = torch.tensor(pixels()[..., ::-1].copy()).permute(0, 3, 1, 2).float()
    torch.onnx.export(
        Azure(), (images[:1],), FOLDER / "azure.onnx", dynamo=False, input_names=["data"],
        output_names=["model_output"], opset_version=12,
    )  # fmt: skip
    with torch.inference_mode():
        scores = Azure()(images).numpy()
    options = ["--color", "BGR", "--scale", "none", "--output-kind", "probabilities"]
    write("azure", options, scores, "torch")


if __name__ == "__main__":
    globals()[f"make_{sys.argv[1]}"]()
