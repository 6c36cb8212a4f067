"""Quantized graphs: selects nodes that can run in int8 and inserts QuantizeLinear and DequantizeLinear around them.

Activations are unsigned with a zero point. Weights are signed and symmetric with one scale per channel. Biases have 32
bits. A ReLU after a quantized node is replaced by clipping at the zero point. Runtimes fuse the pairs with the nodes
between them.

The network's outputs stay in float, because joints are located with sub-cell precision. A layer with an input that
comes from no other layer and has values below 0, such as the scaled image, also stays in float. OpenVINO 2026.4
computes both wrongly in int8, by tens of pixels. It also drops the bias of the first convolution, which is in
float, if height and width are dynamic and its output is quantized after a ReLU. With a LeakyReLU of slope 0 in place of
the ReLU, the result is correct and takes nearly the same time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

SAME_SCALE = "Resize", "MaxPool"  # return values of their input
# Operations that read people from maps. A convolution after them, such as smoothing, is not a layer of the network.
READING = "ArgMax", "Expand", "Gather", "GatherElements", "GatherND", "TopK"
Range = tuple[float, float]


def float_weights(model: onnx.ModelProto) -> None:
    """Convert weights that are stored as fp16 with a Cast to fp32 initialisers, in place."""
    stored, kept = {tensor.name: tensor for tensor in model.graph.initializer}, list[NodeProto]()
    for node in model.graph.node:
        tensor = stored.get(node.input[0]) if node.op_type == "Cast" else None
        if tensor is None or tensor.data_type != TensorProto.FLOAT16:
            kept.append(node)
            continue
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(kept)


def rounded(tensor: str) -> str:
    """Return the name of an activation after its pair of nodes."""
    return f"{tensor}_int8"


@dataclass(frozen=True)
class Layer:
    """A node that can run in int8.

    Attributes:
        name: name of the node.
        kind: operation.
        inputs: input activations.
        output: output activation, after the ReLU if only a ReLU uses it.
        relu: whether there is such a ReLU.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    output: str
    relu: bool


def layers_of(model: onnx.ModelProto) -> dict[str, Layer]:
    """Return convolutions with weights stored in the file, and the layers between them: sums, scaling, pooling.

    Args:
        model: graph with fp32 weights.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    takers = defaultdict[str, list[NodeProto]](list)
    for node in model.graph.node:
        for name in node.input:
            takers[name].append(node)
    layers, given, read_off = dict[str, Layer](), set[str](), set[str]()
    for node in model.graph.node:  # in the order of execution
        # Before the first layer, such operations prepare the image.
        if (node.op_type in READING and layers) or (node.input[:1] and node.input[0] in read_off):
            read_off.update(node.output)
            continue
        if node.op_type == "Conv" and node.input[1] in stored:
            inputs = (node.input[0],)
        elif node.op_type == "Add" and all(name in given for name in node.input):
            inputs = tuple(node.input)
        elif node.op_type in SAME_SCALE and node.input[0] in given:
            inputs = (node.input[0],)
        else:
            if node.op_type == "Relu" and node.input[0] in given:
                given.add(node.output[0])
            continue
        output, behind = node.output[0], takers[node.output[0]]
        relu = len(behind) == 1 and behind[0].op_type == "Relu" and node.op_type not in SAME_SCALE
        output = behind[0].output[0] if relu else output
        given.add(output)
        layers[node.name] = Layer(node.name, node.op_type, inputs, output, relu)
    return layers


def ends_of(layers: dict[str, Layer]) -> list[str]:
    """Return outputs of layers that no other layer uses: the network's maps, before people are read from them."""
    taken = {name for layer in layers.values() for name in layer.inputs}
    return sorted({layer.output for layer in layers.values()} - taken)


def starts_of(layers: dict[str, Layer], ranges: dict[str, Range]) -> set[str]:
    """Return names of layers with an input that no other layer makes and that has values below 0."""
    given = {layer.output for layer in layers.values()}
    return {
        name
        for name, layer in layers.items()
        if any(tensor not in given and ranges[tensor][0] < 0 for tensor in layer.inputs)
    }


def together(layers: dict[str, Layer], convolutions: Set[str]) -> dict[str, Layer]:
    """Return these convolutions, and layers between them with inputs from selected layers only."""
    made, chosen = {layer.output: layer for layer in layers.values()}, dict[str, Layer]()
    for name, layer in layers.items():
        makers = [made.get(tensor) for tensor in layer.inputs]
        if name in convolutions or (
            layer.kind != "Conv" and all(maker is not None and maker.name in chosen for maker in makers)
        ):
            chosen[name] = layer
    return chosen


def quantized(
    model: onnx.ModelProto, chosen: dict[str, Layer], ends: Sequence[str], ranges: dict[str, Range], bits: int
) -> onnx.ModelProto:
    """Copy a graph with some layers in int8.

    Args:
        model: graph with fp32 weights.
        chosen: layers from :func:`together`.
        ends: activations from :func:`ends_of`, which stay in float.
        ranges: lowest and highest value of each activation.
        bits: bits of the weights, 7 or 8.
    """
    return _Quantizer(model, chosen, set(ends), ranges, bits).model


class _Quantizer:
    """Implementation of :func:`quantized`."""

    def __init__(
        self, model: onnx.ModelProto, chosen: dict[str, Layer], ends: set[str], ranges: dict[str, Range], bits: int
    ) -> None:
        self.model, self.ranges, self.largest = onnx.ModelProto(), ranges, 2 ** (bits - 1) - 1
        self.model.CopyFrom(model)
        self.stored = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self.scales, self.new, self.fresh = dict[str, tuple[float, int]](), list[NodeProto](), list[TensorProto]()
        wanted = list[str]()
        for layer in chosen.values():
            wanted += [*layer.inputs, layer.output]
            if layer.kind in SAME_SCALE:
                self.scales[layer.output] = self._scale(layer.inputs[0])
        renamed = {tensor: rounded(tensor) for tensor in dict.fromkeys(wanted) if tensor not in ends}
        relus = {layer.output for layer in chosen.values() if layer.relu and layer.output in renamed}
        clipped = {tensor for tensor in relus if self._scale(tensor)[1] == 0}
        for node in self.model.graph.node:
            made = node.output[0] if node.output else ""
            if node.op_type == "Relu" and made in clipped:
                self._pair(node.input[0], made, renamed[made])
                continue
            if node.op_type == "Relu" and made in renamed and node.input[0] not in renamed:  # of a float layer
                node.op_type = "LeakyRelu"
                node.attribute.append(helper.make_attribute("alpha", 0.0))
            for i, name in enumerate(node.input):
                if name in renamed and not (node.op_type == "Relu" and node.output[0] in clipped):
                    node.input[i] = renamed[name]
            layer = chosen.get(node.name)
            if layer is not None and layer.kind == "Conv":
                self._weights(node, layer.inputs[0])
            self.new.append(node)
            if made in renamed:
                self._pair(made, made, renamed[made])
        graph = self.model.graph
        used = {name for node in self.new for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in used] + self.fresh
        nodes = [NodeProto.FromString(node.SerializeToString()) for node in self.new]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(nodes)
        graph.initializer.extend(kept)
        onnx.checker.check_model(self.model)

    def _scale(self, tensor: str) -> tuple[float, int]:
        """Return scale and zero point of an activation; 0 is represented exactly."""
        if tensor not in self.scales:
            low, high = min(self.ranges[tensor][0], 0.0), max(self.ranges[tensor][1], 0.0)
            scale = max(high - low, 1e-8) / 255
            self.scales[tensor] = scale, round(-low / scale)
        return self.scales[tensor]

    def _add(self, name: str, array: np.ndarray) -> str:
        self.fresh.append(numpy_helper.from_array(array, name))
        return name

    def _pair(self, source: str, tensor: str, result: str) -> None:
        """Add QuantizeLinear of a source with a tensor's scale, and DequantizeLinear."""
        scale, zero = self._scale(tensor)
        parameters = [
            self._add(f"{tensor}_scale", np.float32(scale)),  # pyright: ignore[reportArgumentType]
            self._add(f"{tensor}_zero", np.array(zero, np.uint8)),
        ]
        middle = f"{tensor}_uint8"
        self.new.append(helper.make_node("QuantizeLinear", [source, *parameters], [middle], f"{tensor}_q"))
        self.new.append(helper.make_node("DequantizeLinear", [middle, *parameters], [result], f"{tensor}_dq"))

    def _weights(self, node: NodeProto, taken: str) -> None:
        """Store a convolution's weights and bias as integers."""
        weight = numpy_helper.to_array(self.stored[node.input[1]])
        scale = np.abs(weight).reshape(len(weight), -1).max(1).astype(np.float64) / self.largest
        scale = np.maximum(scale, 1e-12)
        integers = np.round(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
        node.input[1] = self._integers(node.input[1], node.name, integers.astype(np.int8), scale)
        if len(node.input) > 2 and node.input[2] in self.stored:
            scale = scale * self._scale(taken)[0]
            bias = numpy_helper.to_array(self.stored[node.input[2]]) / scale
            limit = 2**31 - 1
            node.input[2] = self._integers(
                node.input[2], node.name, bias.round().clip(-limit, limit).astype(np.int32), scale
            )

    def _integers(self, name: str, node: str, values: np.ndarray, scale: np.ndarray) -> str:
        own = f"{name}_of_{node}"  # several nodes may share a tensor
        inputs = [
            self._add(f"{own}_int", values),
            self._add(f"{own}_scale", scale.astype(np.float32)),
            self._add(f"{own}_zero", np.zeros(len(scale), values.dtype)),
        ]
        self.new.append(helper.make_node("DequantizeLinear", inputs, [own], f"{own}_dq", axis=0))
        return own
