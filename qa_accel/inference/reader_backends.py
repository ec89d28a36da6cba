"""The model of a `Reader`: one of torch on a device, or an exported one on the CPU, for which torch is not imported."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from qa_accel.data.windows import WindowConfig
from qa_accel.inference.answer_policy import AnswerPolicy
from qa_accel.inference.confidence import Calibration
from qa_accel.inference.exported_model import ExportedModel, ExportedPredictor
from qa_accel.messages import shown

if TYPE_CHECKING:
    import torch

    from qa_accel.inference.local_predictor import LocalPredictor

Backend = Literal["torch", "onnx"]
Attention = Literal["auto", "sdpa", "flash_attention_2", "flex_attention", "eager"]


@dataclass(frozen=True)
class ReaderModel:
    qa: Any
    """QAModel or ExportedModel: both have tokenizer and answer_policy."""
    predictor: "LocalPredictor | ExportedPredictor"
    device: "torch.device | str"
    windows: WindowConfig
    longest: int | None
    """Tokens of the longest window that the model takes; None: any number."""
    calibration: Calibration | None


def load(
    name: str,
    backend: str,
    windows: WindowConfig | None,
    min_confidence: float | None,
    **options: Any,
) -> ReaderModel:
    """`options`: dtype, device, attn_implementation and compile of `Reader`. Raises ValueError for what cannot work."""
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
    return ReaderModel(model, ExportedPredictor(model), "cpu", model.window_config(windows), model.longest, calibration)


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

    from qa_accel.batching.mode import BatchingConfig
    from qa_accel.inference.compiled import CompiledModel
    from qa_accel.inference.local_predictor import LocalPredictor
    from qa_accel.inference.placement import PRECISIONS, choose_device, choose_dtype
    from qa_accel.inference.qa_model import load_task
    from qa_accel.models.loading import ModelConfig, available_positions, quiet

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
    qa = qa.with_model(CompiledModel(qa.model)) if compile else qa
    longest = available_positions(task.config)
    return ReaderModel(qa, LocalPredictor(qa, place), place, task.windows, longest, calibration)


def _calibration(policy: AnswerPolicy, name: str, min_confidence: float | None) -> Calibration | None:
    """The model's calibration. Raises ValueError if there is none and confidence is to decide."""
    found = policy.calibration(version_2_with_negative=False)
    if min_confidence is not None and found is None:
        raise ValueError(
            f"min_confidence: the model {name!r} is not calibrated, so nothing is known of its confidence; run "
            "scripts/calibrate.py with questions that have gold answers"
        )
    return found
