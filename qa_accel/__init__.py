"""Fine-tune, evaluate and use extractive question answering models on any number of processes.

>>> from qa_accel import Reader
>>> reader = Reader("runs/quickstart")
>>> reader.answer("What is the capital of Peru?", "Lima is the capital of Peru.")["text"]
'Lima'

Names are imported when they are first used (PEP 562): `import qa_accel` imports no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qa_accel.commands.train import run as train
    from qa_accel.evaluation.squad_metric import SquadMetric
    from qa_accel.evaluation.squad_scores import squad_scores as score
    from qa_accel.inference.reader import Reader
    from qa_accel.training.settings import TrainConfig

__all__ = ["Reader", "SquadMetric", "TrainConfig", "__version__", "score", "train"]

__version__ = "0.2.0"

_PLACES = {
    "Reader": ("qa_accel.inference.reader", "Reader"),
    "SquadMetric": ("qa_accel.evaluation.squad_metric", "SquadMetric"),
    "TrainConfig": ("qa_accel.training.settings", "TrainConfig"),
    "score": ("qa_accel.evaluation.squad_scores", "squad_scores"),
    "train": ("qa_accel.commands.train", "run"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
