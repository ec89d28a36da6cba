"""A graph in fp32 and inputs of real windows -> the same graph with products of 8 bits.

Every product of activations with weights is computed in integers, except those of the head; products inside attention, norms,
softmax and embeddings stay in fp32. Weights are signed, with a scale per column, and use 7 of their 8 bits: processors without
VNNI add pairs of products in 16 bits, which two products of 255 * 64 just do not overflow, so all processors give the same
answers. Activations are unsigned, with one scale and zero point per tensor that are measured once, on the given inputs: a
window's logits do not depend on its neighbours in a batch.

The idea: a few channels of a transformer's activations are ten times as large as the others, which then share a few of the 256
steps. As in SmoothQuant (Xiao et al. 2022, arXiv:2211.10438) each channel is divided by a factor, and its row of the weights is
multiplied by it, which changes no product. The exponents of that factor are those that give the smallest error of the product,
of eight that are tried.

K channels of an activation, N columns of a weight, S rows of activations.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qa_accel.inference.onnx_nodes import Graph, head_products

LARGEST_WEIGHT = 64
"""Of a signed byte: 2 * 255 * 64 is less than 2 ** 15."""
SAMPLED_ROWS = 1024
"""Tokens of each activation that the error is measured on."""
EXPONENTS = ((0.0, 0.0), (0.25, 0.0), (0.5, 0.0), (0.75, 0.0), (1.0, 0.0), (0.5, 0.5), (0.7, 0.3), (0.85, 0.15))
"""Of a channel's largest activation, and of the reciprocal of its largest weight, in its factor."""


@dataclass(frozen=True)
class Activation:
    """What the calibration saw of one tensor."""

    low_K: np.ndarray
    high_K: np.ndarray
    sample_SK: np.ndarray


@dataclass(frozen=True)
class Scheme:
    """How an activation becomes bytes: `round(x / factor_K / scale) + zero_point`, cut to 0 and 255."""

    factor_K: np.ndarray | None
    """None: 1 for each channel."""
    scale: float
    zero_point: int
    error: float
    """Of the products, relative to their size: the root of the ratio of mean squares."""


def quantize(source: Path, target: Path, batches: Sequence[dict[str, np.ndarray]]) -> dict[str, Any]:
    """Writes `target`, the same bytes for the same graph and batches. `batches`: inputs of the graph, of some hundred real
    windows; `attention_mask` says which of their tokens count.

    Returns the recipe, for a report. Raises ValueError for a graph without products of activations and weights, and where
    there are no batches or activations are not finite.
    """
    if not batches:
        raise ValueError("int8 needs windows to measure activations on; there are none")
    graph = Graph.read(source)
    graph.split_attention()
    chosen = [product for product in graph.products() if product.node not in head_products(graph)]
    if not chosen:
        raise ValueError(
            f"{str(source)!r} has no product of activations and weights beside the head: int8 gains nothing"
        )
    activations = measured(graph, list(dict.fromkeys(product.given for product in chosen)), batches)
    schemes: dict[str, Scheme] = {}
    for name, activation in activations.items():
        weights = [graph.weights[product.weight] for product in chosen if product.given == name]
        schemes[name] = best_scheme(activation, np.concatenate(weights, axis=1))
    _replace(graph, chosen, schemes)
    graph.write(target, external_data=source.with_name(source.name + ".data").exists())
    errors = [scheme.error for scheme in schemes.values()]
    return {
        "method": "static",
        "weights": "int8, per column, 7 bits",
        "activations": "uint8, per tensor, channels rescaled",
        "float32": "head, embeddings, attention's inner products, norms",
        "products": len(chosen),
        "calibration_windows": sum(len(batch["input_ids"]) for batch in batches),
        "mean_error_of_a_product": round(float(np.mean(errors)), 5),
        "largest_error_of_a_product": round(float(np.max(errors)), 5),
    }


def measured(graph: Graph, names: Sequence[str], batches: Sequence[dict[str, np.ndarray]]) -> dict[str, Activation]:
    """Range per channel over all tokens of the batches, and some rows, of each tensor. Raises ValueError for numbers that
    are not finite, with the tensor's name."""
    run = graph.session_for(names)
    low: dict[str, np.ndarray] = {}
    high: dict[str, np.ndarray] = {}
    sample: dict[str, list[np.ndarray]] = {name: [] for name in names}
    per_batch = -(-SAMPLED_ROWS // len(batches))
    for batch in batches:
        token_BL = batch["attention_mask"] == 1
        for name, x in zip(names, run(batch)):
            x_NK = x[token_BL] if x.shape[:2] == token_BL.shape else x.reshape(-1, x.shape[-1])
            if not np.isfinite(x_NK).all():
                raise ValueError(f"the tensor {name!r} of the graph has numbers that are not finite: int8 has none")
            low[name] = np.minimum(low.get(name, np.inf), x_NK.min(axis=0))
            high[name] = np.maximum(high.get(name, -np.inf), x_NK.max(axis=0))
            rows = np.linspace(0, len(x_NK) - 1, min(per_batch, len(x_NK))).astype(int)
            sample[name].append(x_NK[rows])
    return {name: Activation(low[name], high[name], np.concatenate(sample[name])) for name in names}


def best_scheme(activation: Activation, weight_KN: np.ndarray) -> Scheme:
    """Of the factors that EXPONENTS give, the one with the smallest error of activation @ weight in bytes. `weight_KN`: all
    weights that this activation is multiplied with, side by side."""
    expected_SN = activation.sample_SK @ weight_KN
    size = max(float(np.square(expected_SN).mean()), np.finfo(np.float32).tiny)
    found = []
    for factor_K in channel_factors(activation, weight_KN):
        scale, zero_point = range_of_bytes(activation.low_K / factor_K, activation.high_K / factor_K)
        byte_SK = np.clip(np.rint(activation.sample_SK / factor_K / scale) + zero_point, 0, 255)
        weight, scale_N = signed_bytes(weight_KN * factor_K[:, None])
        product_SN = ((byte_SK - zero_point).astype(np.float32) @ weight.astype(np.float32)) * (scale * scale_N)
        error = float(np.sqrt(np.square(product_SN - expected_SN).mean() / size))
        found.append(Scheme(None if (factor_K == 1).all() else factor_K, scale, zero_point, error))
    return min(found, key=lambda scheme: scheme.error)


def channel_factors(activation: Activation, weight_KN: np.ndarray) -> Iterator[np.ndarray]:
    """For each of EXPONENTS (a, b), (largest activation) ** a / (largest weight) ** b per channel, float32, with a geometric
    mean of 1. Channels that were always 0 count as the smallest of the others."""
    largest_K = np.maximum(-activation.low_K, activation.high_K).astype(np.float64)
    weight_K = np.abs(weight_KN).max(axis=1).astype(np.float64)
    largest_K, weight_K = (
        np.maximum(x_K, x_K[x_K > 0].min()) if x_K.any() else np.ones_like(x_K) for x_K in (largest_K, weight_K)
    )
    for of_activation, of_weight in EXPONENTS:
        factor_K = largest_K**of_activation / weight_K**of_weight
        yield (factor_K / np.exp(np.log(factor_K).mean())).astype(np.float32)


def range_of_bytes(low_K: np.ndarray, high_K: np.ndarray) -> tuple[float, int]:
    """Scale and zero point of unsigned bytes that reach from the lowest to the highest number; 0 is one of theirs."""
    low, high = min(float(low_K.min()), 0.0), max(float(high_K.max()), 0.0)
    scale = float(np.float32((high - low) / 255)) or 1.0
    return scale, int(np.clip(np.rint(-low / scale), 0, 255))


def signed_bytes(weight_KN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 of at most LARGEST_WEIGHT, and the scale (float32) of each column."""
    scale_N = (np.abs(weight_KN).max(axis=0) / LARGEST_WEIGHT).astype(np.float32)
    scale_N[scale_N == 0] = 1.0
    return np.clip(np.rint(weight_KN / scale_N), -LARGEST_WEIGHT, LARGEST_WEIGHT).astype(np.int8), scale_N


def _replace(graph: Graph, products: Sequence[Any], schemes: dict[str, Scheme]) -> None:
    """Each activation becomes bytes once, before its first product; a bias is added by the product's node."""
    quantized: dict[str, str] = {}
    for product in products:
        scheme, x = schemes[product.given], product.given
        nodes: list[Any] = []
        if x not in quantized:
            scaled = x
            graph.add(f"{x}_scale", np.array(scheme.scale, np.float32))
            graph.add(f"{x}_zero_point", np.array(scheme.zero_point, np.uint8))
            if scheme.factor_K is not None:
                scaled = f"{x}_rescaled"
                factor = graph.add(f"{x}_reciprocal", (1 / scheme.factor_K).astype(np.float32))
                nodes.append(graph.node("Mul", [x, factor], scaled))
            quantized[x] = f"{x}_bytes"
            nodes.append(graph.node("QuantizeLinear", [scaled, f"{x}_scale", f"{x}_zero_point"], quantized[x]))
        weight_KN = graph.weights[product.weight]
        if scheme.factor_K is not None:
            weight_KN = weight_KN * scheme.factor_K[:, None]
        weight, scale_N = signed_bytes(weight_KN)
        given = [
            quantized[x],
            graph.add(f"{product.output}_weight", weight),
            f"{x}_scale",
            graph.add(f"{product.output}_weight_scale", scale_N),
            f"{x}_zero_point",
            graph.add(f"{product.output}_weight_zero_point", np.zeros(len(scale_N), np.int8)),
        ]
        if product.bias is not None:
            given.append(product.bias)
        nodes.append(graph.node("MatMulIntegerToFloat", given, product.output, runtimes_own=True))
        graph.put_in_place(product, nodes)
