"""Products of 8 bits: graphs of a few numbers, made here, whose bytes are worked out by hand."""

from pathlib import Path

import numpy as np
import pytest

from qa_accel.inference.onnx_nodes import Graph
from qa_accel.inference.quantization import (
    LARGEST_WEIGHT,
    Activation,
    best_scheme,
    quantize,
    range_of_bytes,
    signed_bytes,
)

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

WIDTH, WORDS = 8, 20
MASK_IS_READ = "masked"


def reader_graph(path: Path, *, seed: int = 0, outlier: float = 1.0) -> Path:
    """Embeddings, one layer with a bias and GELU, and a head; channel 3 of the embeddings is `outlier` times as large."""
    helper, array = onnx.helper, onnx.numpy_helper.from_array
    generator = np.random.default_rng(seed)
    weights = {
        "embeddings": generator.normal(size=(WORDS, WIDTH)),
        "weight": generator.normal(size=(WIDTH, WIDTH)),
        "bias": generator.normal(size=WIDTH),
        "head": generator.normal(size=(WIDTH, 2)),
        "head_bias": generator.normal(size=2),
    }
    weights["embeddings"][:, 3] *= outlier
    nodes = [
        helper.make_node("Gather", ["embeddings", "input_ids"], ["embedded"]),
        helper.make_node("MatMul", ["embedded", "weight"], ["multiplied"]),
        helper.make_node("Add", ["multiplied", "bias"], ["hidden"]),
        helper.make_node("Gelu", ["hidden"], ["active"]),
        helper.make_node("MatMul", ["active", "head"], ["both"]),
        helper.make_node("Add", ["both", "head_bias"], ["logits"]),
        helper.make_node("Split", ["logits"], ["start_column", "end_column"], axis=2, num_outputs=2),
        helper.make_node("Squeeze", ["start_column", "last"], ["start_logits"]),
        helper.make_node("Squeeze", ["end_column", "last"], ["end_logits"]),
        helper.make_node("Identity", ["attention_mask"], [MASK_IS_READ]),
    ]
    graph = helper.make_graph(
        nodes,
        "reader",
        [helper.make_tensor_value_info(name, 7, ["B", "L"]) for name in ("input_ids", "attention_mask")],
        [
            *(helper.make_tensor_value_info(f"{name}_logits", 1, ["B", "L"]) for name in ("start", "end")),
            helper.make_tensor_value_info(MASK_IS_READ, 7, ["B", "L"]),
        ],
        [*(array(x.astype(np.float32), name) for name, x in weights.items()), array(np.array([2]), "last")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def windows(count: int, length: int, seed: int = 0) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(seed).integers(0, WORDS, (count, length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def logits(path: Path, batch: dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.stack(session.run(["start_logits", "end_logits"], batch))


def test_only_the_layer_becomes_bytes_and_head_and_embeddings_stay_as_they_are(tmp_path):
    """Breaks if the head is quantised, if its bias is lost, or if nothing is quantised at all."""
    source = reader_graph(tmp_path / "fp32.onnx")
    recipe = quantize(source, tmp_path / "int8.onnx", [windows(4, 30)])
    before, after = Graph.read(source), Graph.read(tmp_path / "int8.onnx")
    kinds = [node.op_type for node in after.nodes]
    assert kinds.count("MatMulIntegerToFloat") == 1 == recipe["products"] and kinds.count("MatMul") == 1
    for name in ("embeddings", "head", "head_bias", "bias"):
        np.testing.assert_array_equal(after.weights[name], before.weights[name])
    assert "weight" not in after.weights
    [weight] = [array for array in after.weights.values() if array.shape == (WIDTH, WIDTH)]
    assert weight.dtype == np.int8
    batch = windows(5, 17, seed=1)
    expected = logits(source, batch)
    error = np.abs(logits(tmp_path / "int8.onnx", batch) - expected).max()
    assert 0 < error < 0.05 * np.abs(expected).max()


def test_each_column_of_a_weight_has_its_own_scale():
    """Breaks with one scale for all columns: the first column would become 6, -3 in place of 64, -32."""
    weight, scale = signed_bytes(np.array([[64.0, 640.0, 0.0], [-32.0, 0.0, 0.0]]))
    np.testing.assert_array_equal(weight, [[64, 64, 0], [-32, 0, 0]])
    np.testing.assert_array_equal(scale, np.array([1, 10, 1], np.float32))
    assert weight.dtype == np.int8


def sum_in_16_bits(byte_K: np.ndarray, weight_K: np.ndarray) -> int:
    """As AVX2 computes it: pairs of products are added in 16 bits, which stop at their limits, and the rest in 32 bits."""
    pairs = (byte_K.astype(int) * weight_K.astype(int)).reshape(-1, 2).sum(axis=1)
    return int(np.clip(pairs, -(2**15), 2**15 - 1).sum())


def test_the_largest_bytes_do_not_saturate_the_sums_of_processors_without_vnni():
    """By hand: 255 * 64 + 255 * 64 = 32640 fits into 16 bits. Breaks with weights of 8 bits: 255 * 127 * 2 = 64770 is cut to
    32767, and four channels give 65534 in place of 129540."""
    byte_K = np.full(4, 255)
    assert sum_in_16_bits(byte_K, np.full(4, 127)) == 65534
    weight, _ = signed_bytes(np.array([[7.0], [7.0], [7.0], [7.0]]))
    assert weight[:, 0].tolist() == [64] * 4
    assert sum_in_16_bits(byte_K, weight[:, 0]) == 4 * 255 * 64
    assert sum_in_16_bits(byte_K, -weight[:, 0]) == -4 * 255 * 64
    assert 2 * 255 * LARGEST_WEIGHT < 2**15 <= 2 * 255 * (LARGEST_WEIGHT + 1)


def test_the_range_of_bytes_reaches_from_the_lowest_to_the_highest_number_and_has_zero():
    """-1 to 4.1 in 255 steps of 0.02: zero is byte 50. Breaks if a range without zero moves it off the bytes."""
    scale, zero_point = range_of_bytes(np.array([-1.0, 0.5]), np.array([0.0, 4.1]))
    assert (scale, zero_point) == (pytest.approx(0.02), 50)
    assert range_of_bytes(np.array([1.0]), np.array([5.1])) == (pytest.approx(0.02), 0)
    assert range_of_bytes(np.array([-5.1]), np.array([-1.0])) == (pytest.approx(0.02), 255)
    assert range_of_bytes(np.zeros(2), np.zeros(2)) == (1.0, 0)


def test_one_large_channel_does_not_take_the_bytes_of_the_others():
    """Channel 0 is 100 times as large as the others, whose numbers fill three of 256 steps. Breaks if channels are not
    rescaled: the error is then several times as large."""
    generator = np.random.default_rng(0)
    sample = generator.uniform(-1, 1, (200, 16)).astype(np.float32)
    sample[:, 0] *= 100
    weight = generator.normal(size=(16, 6)).astype(np.float32)
    weight[0] /= 100
    seen = Activation(sample.min(axis=0), sample.max(axis=0), sample)
    scheme = best_scheme(seen, weight)
    assert scheme.factor_K is not None and scheme.factor_K[0] > 10 * scheme.factor_K[1:].max()
    scale, zero_point = range_of_bytes(seen.low_K, seen.high_K)
    coarse = (np.rint(sample / scale) + zero_point).clip(0, 255) - zero_point
    plain_error = np.sqrt(np.square((coarse * scale - sample) @ weight).mean() / np.square(sample @ weight).mean())
    assert scheme.error < plain_error / 5


def test_rescaled_channels_give_the_products_of_the_graph(tmp_path):
    """Breaks if the weight's rows are not multiplied by what the channels are divided by: a factor of 50 is then lost."""
    source = reader_graph(tmp_path / "fp32.onnx", outlier=50.0)
    quantize(source, tmp_path / "int8.onnx", [windows(4, 30)])
    assert [node.op_type for node in Graph.read(tmp_path / "int8.onnx").nodes].count("Mul") == 1
    batch = windows(5, 17, seed=1)
    expected = logits(source, batch)
    assert np.abs(logits(tmp_path / "int8.onnx", batch) - expected).max() < 0.02 * np.abs(expected).max()


def test_the_same_graph_and_windows_give_the_same_bytes(tmp_path):
    """Breaks if names or weights come in the order of a set, or if a part is drawn at random."""
    source = reader_graph(tmp_path / "fp32.onnx")
    contents = []
    for name, words in (("a", WORDS), ("b", WORDS), ("c", 3)):
        batches = [windows(4, 9), windows(2, 30, seed=1)]
        for batch in batches:
            batch["input_ids"] %= words
        quantize(source, tmp_path / name, batches)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1] != contents[2], "the ranges are those of the windows"


def test_logits_of_a_window_do_not_depend_on_its_neighbours(tmp_path):
    """The neighbour has the largest embedding. Breaks with a range that is taken from each batch."""
    source = reader_graph(tmp_path / "fp32.onnx")
    quantize(source, tmp_path / "int8.onnx", [windows(8, 30)])
    largest = int(np.abs(Graph.read(source).weights["embeddings"]).max(axis=1).argmax())
    alone = {
        name: np.full((1, 6), value) for name, value in (("input_ids", (largest + 1) % WORDS), ("attention_mask", 1))
    }
    beside = {name: np.concatenate([array, array]) for name, array in alone.items()}
    beside["input_ids"][1] = largest
    np.testing.assert_array_equal(logits(tmp_path / "int8.onnx", beside)[:, :1], logits(tmp_path / "int8.onnx", alone))


def test_padding_is_not_measured(tmp_path):
    """Word 0 has an embedding of 1,000 and is only used as padding. Breaks if its range counts: the others then share one
    of 256 steps."""
    source = reader_graph(tmp_path / "plain.onnx")
    model = onnx.load(source)
    embeddings = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    embeddings[0] = 1000.0
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(embeddings, "embeddings"))
    onnx.save(model, tmp_path / "fp32.onnx")
    batch = windows(4, 30)
    batch["input_ids"] = batch["input_ids"].clip(1)
    batch["input_ids"][:, 20:] = batch["attention_mask"][:, 20:] = 0
    quantize(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", [batch])
    expected = logits(tmp_path / "fp32.onnx", batch)[..., :20]
    assert np.abs(logits(tmp_path / "int8.onnx", batch)[..., :20] - expected).max() < 0.05 * np.abs(expected).max()


def attention_graph(path: Path) -> Path:
    """onnxruntime's node of attention with its three projections, two heads, and a mask that is added to the scores."""
    helper, generator = onnx.helper, np.random.default_rng(0)
    arrays = {"weight": generator.normal(size=(WIDTH, 3 * WIDTH)), "bias": generator.normal(size=3 * WIDTH)}
    node = helper.make_node(
        "Attention",
        ["x", "weight", "bias", "", "", "mask"],
        ["y"],
        domain="com.microsoft",
        num_heads=2,
        qkv_hidden_sizes=[WIDTH] * 3,
    )
    graph = helper.make_graph(
        [node],
        "attention",
        [
            helper.make_tensor_value_info("x", 1, ["B", "L", WIDTH]),
            helper.make_tensor_value_info("mask", 1, ["B", 1, "L", "L"]),
        ],
        [helper.make_tensor_value_info("y", 1, None)],
        [onnx.numpy_helper.from_array(x.astype(np.float32), name) for name, x in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def test_attention_that_is_split_into_products_computes_the_same(tmp_path):
    """Breaks if query, key and value are exchanged, or the mask or a bias is lost."""
    graph = Graph.read(attention_graph(tmp_path / "one.onnx"))
    assert not graph.products()
    graph.split_attention()
    assert [product.bias is not None for product in graph.products()] == [True] * 3
    graph.write(tmp_path / "split.onnx")
    generator = np.random.default_rng(1)
    given = {
        "x": generator.normal(size=(2, 5, WIDTH)).astype(np.float32),
        "mask": np.where(np.arange(5) < 3, 0, -1e9).astype(np.float32) * np.ones((2, 1, 5, 1), np.float32),
    }
    one, split = (
        onnxruntime.InferenceSession(tmp_path / name, providers=["CPUExecutionProvider"]).run(None, given)[0]
        for name in ("one.onnx", "split.onnx")
    )
    np.testing.assert_allclose(split, one, rtol=1e-5, atol=1e-6)
    given["mask"][:] = 0
    whole = onnxruntime.InferenceSession(tmp_path / "split.onnx", providers=["CPUExecutionProvider"]).run(None, given)[
        0
    ]
    assert np.abs(whole - split).max() > 0.01, "the mask matters here"


def test_what_cannot_be_quantised_is_refused_with_the_reason(tmp_path):
    """Breaks if a file is written that computes nothing in bytes, or garbage."""
    target = tmp_path / "int8.onnx"
    with pytest.raises(ValueError, match="there are none"):
        quantize(reader_graph(tmp_path / "fp32.onnx"), target, [])
    with pytest.raises(ValueError, match="no product of activations and weights"):
        quantize(attention_free(tmp_path), target, [windows(1, 5)])
    model = onnx.load(reader_graph(tmp_path / "nan.onnx"))
    broken = np.full((WORDS, WIDTH), np.nan, np.float32)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(broken, "embeddings"))
    onnx.save(model, tmp_path / "nan.onnx")
    with pytest.raises(ValueError, match="'embedded' of the graph has numbers that are not finite"):
        quantize(tmp_path / "nan.onnx", target, [windows(1, 5)])
    assert not target.exists()


def attention_free(folder: Path) -> Path:
    """Embeddings and a head, nothing else."""
    model = onnx.load(reader_graph(folder / "whole.onnx"))
    nodes = [node for node in model.graph.node if node.op_type not in ("Gelu",) and "weight" not in node.input]
    nodes = [node for node in nodes if "multiplied" not in node.input]
    for node in nodes:
        if "active" in node.input:
            node.input[0] = "embedded"
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, folder / "head.onnx")
    return folder / "head.onnx"
