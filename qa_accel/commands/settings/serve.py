"""Answer questions over HTTP, from programs and on a page, with one or several models.

qa-accel serve --model runs/squad_v2

The page is at http://127.0.0.1:8000/, the reference of the endpoints at /docs. Needs the extra `serve`.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from qa_accel.messages import quoted
from qa_accel.ranges import check_ranges
from qa_accel.serving.settings import LimitsConfig

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class ServeConfig:
    model: tuple[str, ...]
    """Folders of models, or names of the hub, each with or without a name in front: `squad=runs/squad_v2`. Requests choose a
    model by name, which is else the last part of the folder's; the first one answers where they choose none."""
    host: str = "127.0.0.1"
    """Address to listen at. The default is reached from this machine only; 0.0.0.0 is every address of it."""
    port: int = 8000
    """Port to listen at; 0: any free one, which is printed."""
    backend: Literal["torch", "onnx"] = "torch"
    """`onnx`: the models are folders that `qa-accel export` wrote; on the CPU, without torch."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of weights and products."""
    device: str | None = None
    """A device as torch names it: cpu, cuda:1. Not given: the best there is."""
    api_key_file: str | None = None
    """File whose first line is the key that requests need (Authorization: Bearer KEY). Not given: the variable
    QA_ACCEL_API_KEY, or no key."""
    log_requests: bool = False
    """Write each request to stderr, with its texts. Otherwise no text of a request is logged."""
    limits: LimitsConfig = field(default_factory=LimitsConfig)

    def __post_init__(self):
        check_ranges(self, port="[0, 65535]")
        named_models(self.model)


def named_models(given: tuple[str, ...]) -> dict[str, str]:
    """Name -> folder. Raises ValueError for a name that cannot be one, or that comes twice."""
    models: dict[str, str] = {}
    for one in given:
        name, equals, folder = one.partition("=")
        if not equals or not NAME.fullmatch(name):
            name, folder = Path(one).name, one
        if not NAME.fullmatch(name):
            raise ValueError(
                f"--model {one}: {quoted(name)} cannot be a model's name; expected letters, digits, dots, dashes and "
                "underscores: give another in front, as in squad=runs/squad_v2"
            )
        if not folder:
            raise ValueError(f"--model {one}: expected a folder behind the =")
        if name in models:
            raise ValueError(f"--model: two models have the name {name}; give another in front, as in {name}2={folder}")
        models[name] = folder
    if not models:
        raise ValueError("--model: expected the folder of a model")
    return models


Config = ServeConfig
