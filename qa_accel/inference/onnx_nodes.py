"""A file of ONNX -> its nodes and weights, to be changed and written again; which nodes multiply activations with weights.

`onnx` is imported by the functions that need it: the package is optional.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

RUNTIMES_OWN = "com.microsoft"
"""The domain of onnxruntime's own kinds of nodes."""


@dataclass(frozen=True)
class Product:
    """`given @ weight + bias`, in one node or two."""

    node: Any
    sum: Any | None
    """The node that adds the bias to it."""
    given: str
    weight: str
    bias: str | None

    @property
    def output(self) -> str:
        return (self.sum or self.node).output[0]


class Graph:
    """Nodes in their order, and weights as arrays by name. Changes are written by `write` only."""

    def __init__(self, model: Any):
        from onnx import numpy_helper

        self._model = model
        self.nodes: list[Any] = list(model.graph.node)
        self.outputs = [output.name for output in model.graph.output]
        self.weights: dict[str, np.ndarray] = {
            weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer
        }

    @classmethod
    def read(cls, path: Path) -> "Graph":
        import onnx

        return cls(onnx.load(path))

    def write(self, path: Path, *, external_data: bool = False) -> None:
        """Weights that no node reads are left out. The same graph gives the same bytes. `external_data`: weights in a second
        file, PATH.data, as a file of ONNX holds at most 2 GB."""
        import onnx

        model = self._changed(self.outputs)
        if external_data:
            onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")
        else:
            path.write_bytes(model.SerializeToString(deterministic=True))

    def session_for(self, names: Sequence[str]) -> Callable[[dict[str, np.ndarray]], Any]:
        """Inputs of the graph -> these tensors."""
        import onnx
        import onnxruntime

        model = self._changed(names)
        del model.graph.output[:]
        model.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
        )
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        inputs = [given.name for given in session.get_inputs()]
        return lambda batch: session.run(list(names), {name: batch[name] for name in inputs})

    def products(self) -> list[Product]:
        """Nodes that multiply something that depends on the graph's inputs with a matrix that does not, in order."""
        users: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in node.input:
                users.setdefault(name, []).append(node)
        computed = self._computed()
        found = []
        for node in self.nodes:
            if node.op_type == "MatMul" and node.input[0] in computed and self._has_axes(node.input[1], 2):
                following = users.get(node.output[0], [])
                bias = self._bias_of(following[0], node.output[0]) if len(following) == 1 else None
                if node.output[0] in self.outputs:
                    bias = None
                given, weight = node.input
                found.append(Product(node, following[0] if bias else None, given, weight, bias))
        return found

    def split_attention(self) -> None:
        """Nodes `Attention`, which hold the three projections, become three products each, with their bias, and
        `MultiHeadAttention`."""
        made_by = {output: node for node in self.nodes for output in node.output}
        nodes = []
        for node in self.nodes:
            nodes += self._split(node, made_by) if _is_plain_attention(node) else [node]
        self.nodes = nodes

    def add(self, name: str, array: np.ndarray) -> str:
        assert name not in self.weights, f"{name} is there already"
        self.weights[name] = np.ascontiguousarray(array) if array.ndim else array
        return name

    def node(
        self, kind: str, given: Sequence[str], output: str, *, runtimes_own: bool = False, **attributes: Any
    ) -> Any:
        from onnx import helper

        domain = RUNTIMES_OWN if runtimes_own else ""
        return helper.make_node(kind, given, [output], name=output, domain=domain, **attributes)

    def put_in_place(self, product: Product, nodes: Sequence[Any]) -> None:
        """These nodes, the last of which gives the product's output, in place of the product's own."""
        place = _place(self.nodes, product.node)
        self.nodes[place : place + 1] = nodes
        if product.sum is not None:
            del self.nodes[_place(self.nodes, product.sum)]

    def _changed(self, outputs: Sequence[str]) -> Any:
        """A model with these nodes and weights, as far as the outputs need them."""
        import onnx
        from onnx import helper, numpy_helper

        needed, nodes = set(outputs), []
        for node in reversed(self.nodes):
            if not needed.isdisjoint(node.output):
                nodes.append(node)
                needed.update(node.input)
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        for values in (model.graph.node, model.graph.initializer, model.graph.value_info):
            del values[:]
        model.graph.node.extend(reversed(nodes))
        model.graph.initializer.extend(
            numpy_helper.from_array(array, name) for name, array in self.weights.items() if name in needed
        )
        if all(opset.domain != RUNTIMES_OWN for opset in model.opset_import):
            model.opset_import.append(helper.make_opsetid(RUNTIMES_OWN, 1))
        return model

    def _computed(self) -> set[str]:
        """Names of the tensors that depend on the graph's inputs."""
        found = {given.name for given in self._model.graph.input}
        for node in self.nodes:
            if not found.isdisjoint(node.input):
                found.update(node.output)
        return found

    def _has_axes(self, name: str, axes: int) -> bool:
        return name in self.weights and self.weights[name].ndim == axes

    def _bias_of(self, node: Any, product: str) -> str | None:
        """The vector that this node adds to the product, if it does."""
        others = [name for name in node.input if name != product]
        return others[0] if node.op_type == "Add" and others and self._has_axes(others[0], 1) else None

    def _split(self, node: Any, made_by: dict[str, Any]) -> list[Any]:
        from onnx import helper

        x, weight, bias, _, _, mask = [*node.input, *[""] * 6][:6]
        attributes = {given.name: helper.get_attribute_value(given) for given in node.attribute}
        sizes = attributes.pop("qkv_hidden_sizes", None) or [self._value(weight, made_by).shape[1] // 3] * 3
        ends = np.cumsum(sizes)[:-1]
        nodes, parts = [], []
        for name, weight_KN, bias_N in zip(
            ("query", "key", "value"),
            np.split(self._value(weight, made_by), ends, axis=1),
            np.split(self._value(bias, made_by), ends),
        ):
            part = f"{node.output[0]}_{name}"
            multiplied = self.node("MatMul", [x, self.add(f"{part}_projection", weight_KN)], f"{part}_product")
            nodes += [multiplied, self.node("Add", [f"{part}_product", self.add(f"{part}_bias", bias_N)], part)]
            parts.append(part)
        given = [*parts, "", "", mask]
        return [*nodes, self.node("MultiHeadAttention", given, node.output[0], runtimes_own=True, **attributes)]

    def _value(self, name: str, made_by: dict[str, Any]) -> np.ndarray:
        """A weight, or several that a node joins."""
        if name in self.weights:
            return self.weights[name]
        node = made_by[name]
        assert node.op_type == "Concat", f"{name} is a weight, or joined ones, not the output of {node.op_type}"
        return np.concatenate([self._value(part, made_by) for part in node.input], axis=node.attribute[0].i)


def head_products(graph: Graph) -> list[Any]:
    """Nodes of the products that give the outputs: those that are reached from an output without another product before."""
    made_by = {output: node for node in graph.nodes for output in node.output}
    products = {product.node.output[0] for product in graph.products()}
    found, waiting, seen = [], list(graph.outputs), set()
    while waiting:
        name = waiting.pop()
        node = made_by.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.output[0] in products:
            found.append(node)
        else:
            waiting += node.input
    return found


def _is_plain_attention(node: Any) -> bool:
    """Whether it has weights, bias and at most a mask that is added to the scores, and one output."""
    given = [*node.input, *[""] * 6]
    return (
        (node.op_type, node.domain) == ("Attention", RUNTIMES_OWN)
        and bool(given[1] and given[2])
        and not (given[3] or given[4] or any(given[6:]))
        and len(node.output) == 1
        and {attribute.name for attribute in node.attribute}
        <= {"num_heads", "qkv_hidden_sizes", "scale", "mask_filter_value"}
    )


def _place(nodes: Sequence[Any], node: Any) -> int:
    """By identity: equality of nodes compares all they hold."""
    return next(place for place, other in enumerate(nodes) if other is node)
