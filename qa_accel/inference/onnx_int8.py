"""A graph in fp32 -> the same with weights and products of 8 bits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def quantize(source: Path, target: Path, batches: Sequence[dict[str, np.ndarray]]) -> dict[str, Any]:
    """Writes `target`, and returns the recipe for export.json. `batches`: inputs of the graph, from real windows.

    Weights per channel, activations by the range of each batch; the head stays in fp32.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(source)
    quantize_dynamic(
        model,
        target,
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=head_nodes(model.graph),
        use_external_data_format=source.with_name(source.name + ".data").exists(),
    )
    return {"method": "dynamic", "per_channel": True, "reduce_range": True, "weights": "int8", "head": "float32"}


def head_nodes(graph: Any) -> list[str]:
    """Names of the products that give the outputs: those that are reached from an output without another product before."""
    made_by = {output: node for node in graph.node for output in node.output}
    found, waiting = [], [output.name for output in graph.output]
    while waiting:
        node = made_by.get(waiting.pop())
        if node is None:
            continue
        if node.op_type in ("MatMul", "Gemm"):
            found.append(node.name)
        else:
            waiting += node.input
    return found
