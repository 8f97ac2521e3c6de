"""Small ONNX files for the builder and the engines, written node by node."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.support.models import SHARP_STEPS, SIDE, sharp

DTYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
}
LEVEL_STEPS = SHARP_STEPS[:3]
"""The steps of sharp() without scale and normalize: grey levels, which uint8 takes."""

_OPSET = 17


def save_sharp(
    path: Path,
    layout: str = "NCHW",
    dtype: str = "float32",
    batch: str | int = "N",
    *,
    has_features: bool = False,
    is_external: bool = False,
) -> Path:
    """Save tests.support.models.sharp as ONNX.

    A uint8 input is scaled and normalised by the model itself, so that its scores are the same.
    """
    nodes, weights, image = [], [], "image"
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", [image], ["nchw"], perm=[0, 3, 1, 2]))
        image = "nchw"
    nodes.append(helper.make_node("Cast", [image], ["numbers"], to=TensorProto.FLOAT))
    image = "numbers"
    if dtype == "uint8":
        mean, std = (np.float32(SHARP_STEPS[4][key]).reshape(1, 3, 1, 1) for key in ("mean", "std"))
        weights += [_weight("mean", mean * 255), _weight("std", std * 255)]
        nodes.append(helper.make_node("Sub", [image, "mean"], ["centred"]))
        nodes.append(helper.make_node("Div", ["centred", "std"], ["normalized"]))
        image = "normalized"
    for name, tensor in sharp().state_dict().items():
        weights.append(_weight(name, tensor.numpy()))
    convolution = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
    nodes += [
        helper.make_node("Conv", [image, "detail.weight", "detail.bias"], ["conv"], **convolution),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("AveragePool", ["relu"], ["pool"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["pool"], ["features"], axis=1),
        helper.make_node("Gemm", ["features", "head.weight", "head.bias"], ["logits"], transB=1),
    ]
    shape = [batch, SIDE, SIDE, 3] if layout == "NHWC" else [batch, 3, SIDE, SIDE]
    outputs = [_value("features", [batch, 256])] * has_features + [_value("logits", [batch, 5])]
    return save(path, nodes, weights, [_value("image", shape, dtype)], outputs, is_external)


def save(
    path: Path,
    nodes: list[Any],
    weights: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    is_external: bool = False,
    domains: tuple[str, ...] = (),
) -> Path:
    """Save a graph, its weights in a file beside it if they are external."""
    graph = helper.make_graph(nodes, "graph", inputs, outputs, weights)
    opsets = [helper.make_opsetid(domain, _OPSET if not domain else 1) for domain in ("", *domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    external = {"save_as_external_data": True, "location": "weights.data", "size_threshold": 0}
    onnx.save(model, str(path), **(external if is_external else {}))
    return path


def save_node(path: Path, operator: str, domain: str = "", shape: tuple[Any, ...] = ()) -> Path:
    """Save a model of one operator, which turns an image into something of this shape."""
    node = helper.make_node(operator, ["image"], ["scores"], domain=domain)
    image, scores = _value("image", ["N", 3, SIDE, SIDE]), _value("scores", [*shape])
    return save(path, [node], [], [image], [scores], domains=(domain,) * bool(domain))


def save_binary(path: Path, *, is_probability: bool) -> Path:
    """Save a model with one output: how much redder than blue an image is."""
    weight = np.array([[10.0], [0.0], [-10.0]], np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weight"], ["logit"]),
    ]
    if is_probability:
        nodes.append(helper.make_node("Sigmoid", ["logit"], ["score"]))
    inputs = [_value("image", ["N", 3, SIDE, SIDE])]
    outputs = [_value("score" if is_probability else "logit", ["N", 1])]
    return save(path, nodes, [_weight("weight", weight)], inputs, outputs)


def _weight(name: str, values: Any) -> Any:
    return numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name)


def _value(name: str, shape: list[Any], dtype: str = "float32") -> Any:
    return helper.make_tensor_value_info(name, DTYPES[dtype], shape)
