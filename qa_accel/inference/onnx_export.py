"""A torch model with a question answering head -> model.onnx, and how far its logits are from torch's.

The model is traced with eager attention, whose graph is the plainest, and dynamic batch and length. Afterwards attention with
its three projections becomes one node where onnxscript's rules find the pattern. Further fusions are left out: on CPUs
onnxruntime's kernels for them are slower than the separate nodes.
"""

import contextlib
import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PretrainedConfig

from qa_accel.batching.mode import padding_rules
from qa_accel.batching.plan import NOTHING, evaluation_plan
from qa_accel.batching.rows import ArrayBatch, PaddedRows
from qa_accel.data.windows import Windows
from qa_accel.inference.onnx_session import METADATA, OUTPUTS, PACKAGE, GraphFacts, OnnxSession
from qa_accel.inference.qa_model import QAModel
from qa_accel.messages import one_line
from qa_accel.models import architectures

TOLERANCE = 1e-4
"""Largest difference of a logit from torch's."""
FUSED = ("Attention", "MultiHeadAttention", "LayerNormalization", "Gelu")
"""Nodes that are counted: each does the work of several."""
SHAPES = ((1, 1), (1, 2), (1, 7), (2, 37), (3, 64), (5, 100))
"""(batch, length) of random windows that are compared, beside the longest alone and in a batch. None is the traced one."""


class NotExported(ValueError):
    """A model that cannot be exported, or whose graph computes something else."""


@dataclass(frozen=True)
class Graph:
    session: OnnxSession
    nodes: dict[str, int]
    """Of FUSED, how many the graph has."""


def check_exportable(config: PretrainedConfig, name: str) -> None:
    """Raises NotExported, with the model's type, for what is known not to work before any weight is read."""
    width = architectures.architecture(config).fixed_width
    if width is not None:
        raise NotExported(
            f"{name!r} is of the type {config.model_type}, which cannot be exported with rows of any length: {width}"
        )


def export(qa: QAModel, path: Path, name: str) -> Graph:
    """Writes the graph of a model in fp32 on the CPU. Above 2 GB its weights are in a second file beside it.

    Raises NotExported, with the model's type, if torch or onnxscript cannot express the model or onnxruntime not read it;
    ValueError where the packages are missing.
    """
    version = _packages()
    facts = GraphFacts(qa.inputs.config.model_type, "float32", padding_rules(qa.inputs, qa.tokenizer))
    try:
        try:
            session = _write(qa, path, facts, fused=True)
        except ValueError:  # a rule of onnxscript made a graph that is not valid
            session = _write(qa, path, facts, fused=False)
    except Exception as error:  # torch wraps whatever failed
        raise NotExported(
            f"{name!r} is of the type {facts.model_type}, which torch {torch.__version__} and onnxscript {version} cannot "
            f"export: {_cause(error)}"
        ) from error
    return Graph(session, node_counts(path))


def _write(qa: QAModel, path: Path, facts: GraphFacts, *, fused: bool) -> OnnxSession:
    example = _example(qa)
    names = list(example)
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", max=facts.padding.max_length)
    before = qa.model.config._attn_implementation
    qa.model.set_attn_implementation("eager")
    try:
        with _silent():
            program = torch.onnx.export(
                _LogitsOf(qa.model, names).eval(),
                tuple(example.values()),
                dynamo=True,
                input_names=names,
                output_names=list(OUTPUTS),
                dynamic_shapes=(tuple({0: batch, 1: length} for _ in names),),
                external_data=False,
                verbose=False,
            )
            assert program is not None, "dynamo gives the program"
            if fused:
                _fuse_attention(program.model)
            program.model.metadata_props[METADATA] = facts.as_json()
            program.save(path)
    finally:
        qa.model.set_attn_implementation(before)
    return OnnxSession(path, torch.get_num_threads())


def node_counts(path: Path) -> dict[str, int]:
    """How many nodes of each of FUSED a file has."""
    import onnx

    counts = Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)
    return {kind: counts[kind] for kind in FUSED if counts[kind]}


class _LogitsOf(torch.nn.Module):
    def __init__(self, model: torch.nn.Module, names: Sequence[str]):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        output = self.model(**dict(zip(self.names, tensors)))
        return output.start_logits, output.end_logits


def _example(qa: QAModel) -> dict[str, torch.Tensor]:
    """Inputs to trace with. No length is 0 or 1, or the same as another: each is a number of its own to the tracer."""
    longest = padding_rules(qa.inputs, qa.tokenizer).max_length or 37
    windows = random_windows([min(length, longest) for length in (37, 21, 30)], len(qa.tokenizer), seed=0)
    [batch] = batches(qa, windows, [np.arange(3)])
    return {name: torch.from_numpy(array) for name, array in batch.inputs.items()}


def _fuse_attention(model: Any) -> None:
    from onnxscript.optimizer import optimize
    from onnxscript.rewriter import rewrite
    from onnxscript.rewriter.ort_fusions import shape_optimization
    from onnxscript.rewriter.ort_fusions.attention import fuse_attention
    from onnxscript.rewriter.ort_fusions.mha import fuse_mha1, fuse_mha2
    from onnxscript.rewriter.ort_fusions.mha_bias import fuse_mha_bias
    from onnxscript.rewriter.ort_fusions.sdpa import fuse_sdpa
    from onnxscript.rewriter.ort_fusions.sdpa_via_mha import replace_sdpa_by_mha
    from onnxscript.rewriter.rules.common import gemm_to_matmul_add_rule

    rewrite(model, [gemm_to_matmul_add_rule])  # else shape inference finds a Gemm of three axes in GPT-2
    optimize(model)
    shape_optimization.rules.apply_to_model(model)
    optimize(model)
    fuse_sdpa(model, apply_shape_inference=True)
    fuse_mha1(model)
    fuse_mha2(model)
    fuse_mha_bias(model)
    fuse_attention(model)
    replace_sdpa_by_mha(model)  # what found no projections: rotary positions come between
    optimize(model)


def largest_difference(qa: QAModel, session: OnnxSession, given: Iterable[ArrayBatch]) -> float:
    """Over the tokens of these batches, the largest difference of a logit; inf where one is not a number.

    Raises NotExported, with the shape, if the graph fails.
    """
    worst = 0.0
    for batch in given:
        with torch.inference_mode():
            output = qa.model(**{name: torch.from_numpy(array) for name, array in batch.inputs.items()})
        token_BL = batch.inputs["attention_mask"] == 1
        try:
            logits = session(**batch.inputs)
        except Exception as error:  # onnxruntime's own classes
            raise NotExported(
                f"its graph does not compute rows of the shape {token_BL.shape}: {_cause(error)}"
            ) from error
        for expected, found in zip((output.start_logits, output.end_logits), logits):
            if found.shape != expected.shape:
                return float("inf")
            difference = np.abs(found - expected.numpy())[token_BL].max()
            worst = max(worst, float(difference)) if np.isfinite(difference) else float("inf")
    return worst


def varied_batches(qa: QAModel, longest: int) -> Iterator[ArrayBatch]:
    """Batches of random windows of many lengths, of one window and of several, padded and not."""
    vocabulary = len(qa.tokenizer)
    for seed, (count, length) in enumerate([*SHAPES, (1, longest), (3, longest)], start=1):
        length = min(length, longest)
        rest = np.random.default_rng(seed).integers(1, length, count - 1, endpoint=True)
        yield from batches(qa, random_windows([length, *rest.tolist()], vocabulary, seed), [np.arange(count)])


def batches(qa: QAModel, windows: Windows, plan: Iterable[np.ndarray]) -> Iterator[ArrayBatch]:
    """Padded batches of these windows, given by their places."""
    rows = PaddedRows(windows, **padding_rules(qa.inputs, qa.tokenizer).rows(qa.max_seq_length))
    for index_B in plan:
        yield rows.arrays(index_B)


def chosen_batches(qa: QAModel, windows: Windows, most: int) -> list[ArrayBatch]:
    """At most so many windows of all lengths in batches of 8, as prediction makes them."""
    plan = evaluation_plan(windows.lengths_W, 8)
    chosen = np.unique(np.linspace(0, len(plan) - 1, most // 8).astype(int))
    return list(batches(qa, windows, (row[row != NOTHING] for row in plan[chosen])))


def random_windows(lengths: Sequence[int], vocabulary: int, seed: int) -> Windows:
    """Random ids; the first half of each window is the question."""
    generator = np.random.default_rng(seed)
    length_W = np.array(lengths)
    begin_W = np.concatenate([[0], np.cumsum(length_W)]).astype(np.int64)
    zeros_W, zeros_N = np.zeros(len(lengths), np.int32), np.zeros(begin_W[-1], np.int32)
    place_N = np.arange(begin_W[-1]) - np.repeat(begin_W[:-1], length_W)
    return Windows(
        input_ids_N=generator.integers(0, vocabulary, begin_W[-1]).astype(np.int32),
        token_type_ids_N=(place_N >= np.repeat(length_W // 2, length_W)).astype(np.uint8),
        offset_start_N=zeros_N,
        offset_end_N=zeros_N,
        begin_W=begin_W,
        question_W=np.arange(len(lengths), dtype=np.int32),
        context_begin_W=(length_W // 2).astype(np.int32),
        context_end_W=length_W.astype(np.int32),
        null_W=zeros_W,
        start_W=zeros_W,
        end_W=zeros_W,
    )


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """The exporter prints its steps, and warns about packages that are not needed. What fails is raised."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def _cause(error: BaseException) -> str:
    """The first error of a chain: the later ones say only in which step it was."""
    while error.__cause__ is not None:
        error = error.__cause__
    return one_line(f"{type(error).__name__}: {error}", 300)


def _packages() -> str:
    """onnxscript's version. Raises ValueError if a package is missing."""
    try:
        import onnx  # noqa: F401
        import onnxscript
    except ImportError as error:
        raise ValueError(f"the export needs {error.name}: {PACKAGE}") from error
    return onnxscript.__version__
