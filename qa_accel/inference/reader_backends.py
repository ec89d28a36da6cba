"""One model of a `Reader`: of torch on a device, or an exported one on the CPU, for which torch is not imported."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from qa_accel.data.settings import WindowConfig
from qa_accel.data.window_maker import WindowMaker
from qa_accel.data.windows import Windows
from qa_accel.inference.answer_lists import Answers
from qa_accel.inference.answer_policy import AnswerPolicy
from qa_accel.inference.call_settings import CallSettings
from qa_accel.inference.confidence import Calibration
from qa_accel.inference.exported_model import ExportedModel, ExportedPredictor
from qa_accel.inference.postprocess import Candidates, best_answers
from qa_accel.inference.settings import SpanConfig, usual_batch_size
from qa_accel.messages import shown

if TYPE_CHECKING:
    import torch

    from qa_accel.inference.local_predictor import LocalPredictor


Attention = Literal["auto", "sdpa", "flash_attention_2", "flex_attention", "eager"]


@dataclass(frozen=True, eq=False)
class ReaderModel:
    """A model with what its answers depend on. Texts become windows, windows candidates, candidates answers: three steps, the
    first and the last of which any thread may take."""

    qa: Any
    """QAModel or ExportedModel: both have tokenizer and answer_policy."""
    predictor: "LocalPredictor | ExportedPredictor"
    device: "torch.device | str"
    windows: WindowConfig
    longest: int | None
    """Tokens of the longest window that the model takes; None: any number."""
    calibration: Calibration | None
    maker: WindowMaker
    spans: SpanConfig = field(default_factory=SpanConfig)
    batch_size: int = 8
    """Windows per forward pass."""

    def call_windows(self, call: CallSettings) -> WindowConfig:
        """Those that a call of the reader asks of this model. Raises ValueError if it cannot make them."""
        return call.windows(self.windows, self.longest, self.qa.tokenizer.num_special_tokens_to_add(pair=True))

    def prepare(self, pairs: Sequence[tuple[str, str]], windows: WindowConfig | None = None) -> Windows:
        """The windows of at least one (question, context), pair after pair: what comes before the forward pass."""
        questions, contexts = [question for question, _ in pairs], [context for _, context in pairs]
        return self.maker.windows(questions, contexts, windows or self.windows)

    def candidates(
        self, made: Windows, spans: SpanConfig, batch_size: int, max_seq_length: int | None = None
    ) -> Candidates:
        """The forward pass: the best spans of each window, also of windows that belong to different calls.

        `max_seq_length`: if the windows were made with other settings than the model's.
        """
        return self.predictor.candidates(made, spans, batch_size, max_seq_length or self.windows.max_seq_length)

    def finish(
        self,
        pairs: Sequence[tuple[str, str]],
        made: Windows,
        candidates: Candidates,
        spans: SpanConfig,
        calibration: Calibration | None,
    ) -> Answers:
        """What comes after the forward pass: answers by row, from all windows of the pairs."""
        table = {"id": [str(row) for row in range(len(pairs))], "context": [context for _, context in pairs]}
        return best_answers(table, made, candidates, spans, version_2_with_negative=True, calibration=calibration)


def load(
    name: str,
    backend: str,
    windows: WindowConfig | None,
    min_confidence: float | None,
    spans: SpanConfig | None = None,
    batch_size: int | None = None,
    **options: Any,
) -> ReaderModel:
    """`options`: dtype, device, attn_implementation and compile of `Reader`. Raises ValueError for what cannot work."""
    found = _loaded(name, backend, windows, min_confidence, **options)
    usual = usual_batch_size("onnx" if backend == "onnx" else "torch", str(found.device).partition(":")[0])
    return replace(found, spans=spans or SpanConfig(), batch_size=batch_size or usual)


def _loaded(
    name: str, backend: str, windows: WindowConfig | None, min_confidence: float | None, **options: Any
) -> ReaderModel:
    if backend == "torch":
        return _of_torch(name, windows, min_confidence, **options)
    if backend != "onnx":
        raise ValueError(f"backend is {shown(backend)}; expected torch or onnx")
    of_torch = {
        "dtype": ("float32",),
        "device": (None, "cpu", -1),
        "attn_implementation": ("auto",),
        "compile": (False,),
    }
    for option, without_effect in of_torch.items():
        if str(options[option]).removeprefix("torch.") not in map(str, without_effect):
            raise ValueError(
                f"{option} is {shown(options[option])}, which backend onnx does not take: an exported model computes on the CPU, in "
                "the precision that it was exported in; leave it out"
            )
    model = ExportedModel.load(name)
    calibration = _calibration(model.answer_policy, name, min_confidence)
    maker = WindowMaker(model.tokenizer)
    config = model.window_config(windows)
    return ReaderModel(model, ExportedPredictor(model), "cpu", config, model.longest, calibration, maker)


def _of_torch(
    name: str,
    windows: WindowConfig | None,
    min_confidence: float | None,
    *,
    dtype: Any,
    device: Any,
    attn_implementation: Attention,
    compile: bool,
) -> ReaderModel:
    from qa_accel.batching.settings import BatchingConfig
    from qa_accel.inference.local_predictor import LocalPredictor
    from qa_accel.inference.placement import PRECISIONS, choose_device, choose_dtype
    from qa_accel.inference.qa_model import load_task
    from qa_accel.models.loading import available_positions, quiet
    from qa_accel.models.settings import ModelConfig

    place = choose_device(device)
    dtype_name = choose_dtype(dtype, place)
    with quiet():
        task = load_task(
            ModelConfig(name, dtype=dtype_name),
            windows,
            BatchingConfig(attn_implementation=attn_implementation),
            device=place.type,
            precision=PRECISIONS[dtype_name],
        )
        calibration = _calibration(task.answer_policy, name, min_confidence)
        qa = task.load_model(trained=True)
    qa.model.to(place).eval()
    if compile:
        from qa_accel.inference.compiled import CompiledModel  # with torch's compiler

        qa = qa.with_model(CompiledModel(qa.model))
    longest = available_positions(task.config)
    predictor, maker = LocalPredictor(qa, place), WindowMaker(qa.tokenizer)
    return ReaderModel(qa, predictor, place, task.windows, longest, calibration, maker)


def _calibration(policy: AnswerPolicy, name: str, min_confidence: float | None) -> Calibration | None:
    """The model's calibration. Raises ValueError if there is none and confidence is to decide."""
    found = policy.calibration(version_2_with_negative=False)
    if min_confidence is not None and found is None:
        raise ValueError(
            f"min_confidence: the model {name!r} is not calibrated, so nothing is known of its confidence; run "
            "scripts/calibrate.py with questions that have gold answers"
        )
    return found
