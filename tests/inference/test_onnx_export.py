"""A graph gives torch's logits for every shape of a batch, and holds the nodes that make it fast."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import zoo

from qa_accel.batching.settings import BatchingConfig
from qa_accel.data.settings import WindowConfig
from qa_accel.data.window_maker import WindowMaker
from qa_accel.inference import onnx_export
from qa_accel.inference.exported_model import ExportedModel, ExportedPredictor
from qa_accel.inference.local_predictor import LocalPredictor
from qa_accel.inference.onnx_export import NotExported
from qa_accel.inference.qa_model import QAModel, load_task
from qa_accel.inference.settings import SpanConfig
from qa_accel.models import plain_tokenizer
from qa_accel.models.loading import quiet
from qa_accel.models.settings import ModelConfig

EXPORTED = ("albert", "bart", "bert", "camembert", "deberta-v2", "deberta-v3", "distilbert", "electra", "gpt2", "llama")
EXPORTED += ("mistral", "mobilebert", "modernbert", "mpnet", "qwen2", "qwen3", "roberta", "squeezebert", "xlm-roberta")
REFUSED = {
    "big_bird": "cannot be exported with rows of any length",
    "fnet": "cannot be exported with rows of any length",
    "funnel": "cannot be exported with rows of any length",
    "longformer": "onnxscript",
    "mbart": "does not compute rows of the shape",
    "t5": "differ",
    "xlnet": "onnxscript",
}


def loaded(name: str, folder: Path) -> QAModel:
    with quiet():
        task = load_task(ModelConfig(str(zoo.make(name, folder))), None, BatchingConfig(), device="cpu", precision="no")
        onnx_export.check_exportable(task.config, name)
        qa = task.load_model(trained=True)
    qa.model.eval()
    return qa


def counts(path: Path) -> dict[str, int]:
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    return {kind: kinds.count(kind) for kind in set(kinds)}


def exported(name: str, folder: Path) -> tuple[QAModel, onnx_export.Graph]:
    qa = loaded(name, folder / "source")
    return qa, onnx_export.export(qa, folder / "model.onnx", name)


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> tuple[Path, QAModel, onnx_export.Graph]:
    folder = tmp_path_factory.mktemp("bert")
    return folder / "model.onnx", *exported("bert", folder)


def compare(qa: QAModel, graph: onnx_export.Graph, name: str) -> None:
    """Logits of many shapes, then candidates of real windows of five questions, by the two ways to them."""
    varied = [*onnx_export.varied_batches(qa, qa.max_seq_length)]
    shapes = {batch.context_BL.shape for batch in varied}
    assert len(shapes) > 5 and {shape[0] for shape in shapes} > {1, 3}, "another batch and length than the traced ones"
    assert onnx_export.largest_difference(qa, graph.session, varied) < 1e-5
    plain = plain_tokenizer.plain(qa.tokenizer)
    pairs = [
        (f"Where was {name} born?", zoo.toy.context_about(name) * count)
        for name, count in zip(zoo.toy.NAMES, (1, 1, 2, 3, 9))
    ]
    questions, contexts = zip(*pairs)
    config = WindowConfig.of_length(min(100, qa.max_seq_length), 4)
    windows = WindowMaker(plain).windows(questions, contexts, config)
    exported = ExportedPredictor(ExportedModel(plain, graph.session, qa.answer_policy))
    spans = SpanConfig(n_best_size=5, max_answer_length=6)
    found = exported.candidates(windows, spans, 3, config.max_seq_length)
    expected = LocalPredictor(qa, qa.model.device).candidates(windows, spans, 3, config.max_seq_length)
    assert len(windows) > 5, "one context has several windows"
    for field in ("null_start_W", "lse_start_W", "lse_end_W", "start_logit_WK", "end_logit_WK"):
        assert np.allclose(getattr(found, field), getattr(expected, field), atol=2e-5), field
    assert np.array_equal(found.start_WK[:, 0], expected.start_WK[:, 0])
    assert np.array_equal(found.end_WK[:, 0], expected.end_WK[:, 0])


def test_berts_graph_equals_torch_and_each_layer_has_its_fused_nodes(bert):
    """Per layer one node of attention with its projections, two layer norms, one Gelu, two more products; a layer norm for the
    embeddings; and a product for the head. Breaks if a new torch or onnxscript gives a graph that the rules do not find."""
    path, qa, graph = bert
    compare(qa, graph, "bert")
    found = counts(path)
    layers = zoo.SIZES["num_hidden_layers"]
    assert found["Attention"] == layers
    assert found["LayerNormalization"] == 2 * layers + 1 and found["Gelu"] == layers
    assert found["MatMul"] == 3 * layers + 1
    assert not found.keys() & {
        "Softmax",
        "Erf",
        "ReduceMean",
        "SkipLayerNormalization",
        "BiasGelu",
        "MultiHeadAttention",
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXPORTED if name != "bert"])
def test_each_architecture_of_the_page_gives_torchs_logits_and_answers(name, tmp_path):
    """Breaks if a row of docs/export.md is no longer true."""
    compare(*exported(name, tmp_path), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exported_is_refused_by_its_type(name, tmp_path):
    """Breaks if a graph is written that computes something else, or a library's error is all that the user sees."""
    with pytest.raises(NotExported) as caught:  # noqa: PT012
        qa = loaded(name, tmp_path / "source")
        graph = onnx_export.export(qa, tmp_path / "model.onnx", name)
        worst = onnx_export.largest_difference(qa, graph.session, onnx_export.varied_batches(qa, 128))
        if worst > onnx_export.TOLERANCE:
            raise NotExported(f"they differ by {worst}")
    assert REFUSED[name] in str(caught.value) and "\n" not in str(caught.value)
    assert name in str(caught.value) or name in ("mbart", "t5"), "the command adds the type to these two"


def test_every_architecture_of_the_zoo_is_in_one_of_the_lists():
    assert {*EXPORTED, *REFUSED} == set(zoo.KINDS) and not REFUSED.keys() & set(EXPORTED)


def test_a_model_whose_rows_have_a_fixed_width_is_refused_before_its_weights_are_read(tmp_path):
    with pytest.raises(NotExported, match="is of the type fnet, which cannot be exported with rows of any length"):
        loaded("fnet", tmp_path)


def test_a_difference_of_logits_is_seen(bert):
    """The graph of a model with other weights. Breaks if only some batches, or only start logits, are compared."""
    _, qa, graph = bert
    bias: Any = qa.model.qa_outputs.bias
    bias.data[1] += 0.01
    try:
        difference = onnx_export.largest_difference(qa, graph.session, onnx_export.varied_batches(qa, 128))
    finally:
        bias.data[1] -= 0.01
    assert difference == pytest.approx(0.01, abs=1e-4)
