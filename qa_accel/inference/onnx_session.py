"""A file model.onnx -> a session of onnxruntime that computes logits, with what batches have to know of it. No torch.

The graph takes int64 arrays (B, L): input_ids, attention_mask and, where the architecture has them, token_type_ids and
position_ids. It gives start_logits and end_logits, float32 (B, L). What else is needed is in the file's metadata, as JSON
under the name `qa_accel`, so that a graph cannot be separated from it.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qa_accel.batching.rows import PaddingRules
from qa_accel.messages import REASON, listed, one_line

MODEL = "model.onnx"
METADATA = "qa_accel"
FORMAT = 1
"""Of the metadata. Raised where an older reader would make wrong batches of it."""
OUTPUTS = ("start_logits", "end_logits")
SLOWER = ("SkipLayerNormFusion", "BiasSkipLayerNormFusion", "BiasGeluFusion")
"""Optimisations of onnxruntime that its kernels for the CPU do not reward: a sum and a layer norm take a fifth of the time of
the node that joins them."""
AGAIN = "export the model again with scripts/export.py"
PACKAGE = "pip install 'qa-accel[onnx]'"


class Logits(NamedTuple):
    """float32, (B, L)."""

    start_logits: np.ndarray
    end_logits: np.ndarray


@dataclass(frozen=True)
class GraphFacts:
    """The metadata."""

    model_type: str
    precision: str
    """`float32` or `int8`."""
    padding: PaddingRules

    def as_json(self) -> str:
        return json.dumps({"format": FORMAT} | asdict(self))

    @classmethod
    def of(cls, metadata: dict[str, str], place: str) -> "GraphFacts":
        """Raises ValueError, with `place`, for a graph that this package did not write, or a later version of it did."""
        try:
            found = json.loads(metadata[METADATA])
            if found["format"] > FORMAT:
                raise ValueError(
                    f"{place} was exported by a later version of qa-accel (format {found['format']}, this one reads {FORMAT}): "
                    f"update qa-accel, or {AGAIN}"
                )
            return cls(found["model_type"], found["precision"], PaddingRules(**found["padding"]))
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{place} was not exported by qa-accel (its metadata has no {METADATA}), so nothing says how its inputs are "
                f"padded: {AGAIN}"
            ) from error


class OnnxSession:
    """`session(input_ids=..., attention_mask=...)` -> Logits. Any number of threads may call."""

    def __init__(self, path: Path, threads: int | None = None):
        """`threads` per call: OMP_NUM_THREADS, else one for each core that this process may use, if not given.

        Raises ValueError, with the path, for a file that cannot be read or has other inputs and outputs, and where
        onnxruntime is missing.
        """
        runtime = _onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or default_threads()
        options.log_severity_level = 3  # errors are raised; warnings are about the graph, which the user did not write
        try:
            self._session = runtime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOWER
            )
        except Exception as error:  # onnxruntime has an exception class for each kind of damage, none of them public
            raise ValueError(
                f"{str(path)!r} cannot be loaded by onnxruntime {runtime.__version__}: {_reason(error)}"
            ) from error
        self.files = tuple(sorted(path.parent.glob(f"{path.name}*")))
        self.runtime = f"onnxruntime {runtime.__version__}"
        self.facts = GraphFacts.of(self._session.get_modelmeta().custom_metadata_map, repr(str(path)))
        self.inputs = tuple(given.name for given in self._session.get_inputs())
        given = {output.name for output in self._session.get_outputs()}
        if not given.issuperset(OUTPUTS) or "input_ids" not in self.inputs:
            raise ValueError(
                f"{str(path)!r} has the outputs {listed(sorted(given))}; expected {listed(OUTPUTS)}: {AGAIN}"
            )

    def __call__(self, **inputs: Any) -> Logits:
        """Arrays, or tensors of torch on the host."""
        feed = {name: np.asarray(inputs[name]) for name in self.inputs}
        return Logits(*self._session.run(OUTPUTS, feed))


def default_threads() -> int:
    """As torch decides: OMP_NUM_THREADS, else one for each core that this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) > 0 else len(os.sched_getaffinity(0))


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(f"exported models need onnxruntime: {PACKAGE}") from error
    return onnxruntime


def _reason(error: Exception) -> str:
    """What is wrong, and the way out. The reason is at the end of onnxruntime's message, after the place in its source."""
    text = one_line(str(error), 2000)
    shown = text if len(text) <= REASON else f"...{text[-REASON:]}"
    if "opset" in text.lower() or "IR version" in text:
        return f"{shown}; the file was written for a later onnxruntime: {PACKAGE} --upgrade, or {AGAIN}"
    return f"{shown}; the file is damaged: copy or {AGAIN}"
