"""Answer questions over HTTP, from programs and on a page, with one or several models.

qa-accel serve --model runs/squad_v2

The page is at http://127.0.0.1:8000/, the reference of the endpoints at /docs. Needs the extra `serve`.
"""

import logging
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from qa_accel.messages import quoted
from qa_accel.ranges import check_ranges
from qa_accel.serving.settings import LimitsConfig

if TYPE_CHECKING:
    from qa_accel.inference.reader import Reader

logger = logging.getLogger(__name__)

KEY_VARIABLE = "QA_ACCEL_API_KEY"
SHORTEST_KEY = 16
"""Characters: a shorter one can be guessed."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LOOPBACK = ("127.0.0.1", "::1", "localhost")


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


Config = ServeConfig


def run(settings: ServeConfig) -> int:
    """Serve until SIGTERM or SIGINT; 1 if the worker ended by an error."""
    try:
        from qa_accel.serving import server
        from qa_accel.serving.metrics import Metrics
        from qa_accel.serving.service import Service
        from qa_accel.serving.worker import Worker
    except ModuleNotFoundError as error:
        raise ValueError(
            f"serve needs the package {error.name}, which is not installed: pip install 'qa-accel[serve]'"
        ) from error
    key = api_key(settings.api_key_file)
    metrics = Metrics()
    worker = Worker(lambda: _load(settings), settings.limits, metrics)
    service = Service(worker, settings.limits, metrics, key, settings.log_requests)
    opened = server.bind(settings.host, settings.port)
    if settings.log_requests:
        logging.getLogger("qa_accel.serving.requests").setLevel(logging.INFO)
    if key is None and settings.host not in LOOPBACK:
        logger.warning(
            "--host %s without a key: whoever reaches this port can ask; set %s or --api_key_file",
            settings.host,
            KEY_VARIABLE,
        )

    def say() -> None:
        print(f"serving {', '.join(worker.readers)} at {server.address_of(opened)}/", flush=True)

    return server.run(service, opened, say)


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


def api_key(file: str | None) -> str | None:
    """The key of the file, else of the environment, else none. Raises ValueError for one that is too short to be one."""
    if file is not None:
        lines = Path(file).read_text(encoding="utf-8").splitlines() if Path(file).is_file() else []
        key, place = (lines[0].strip() if lines else ""), f"--api_key_file {file}"
    elif KEY_VARIABLE in os.environ:
        key, place = os.environ[KEY_VARIABLE].strip(), KEY_VARIABLE
    else:
        return None
    if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(
            f"{place}: expected a key of at least {SHORTEST_KEY} ASCII characters without blanks, for example what "
            "`openssl rand -hex 32` prints"
        )
    return key


def _load(settings: ServeConfig) -> dict[str, "Reader"]:
    """In the worker's thread: torch is imported while the server answers already."""
    from qa_accel.inference.reader import Reader

    return {
        name: Reader(folder, dtype=settings.dtype, device=settings.device, backend=settings.backend)
        for name, folder in named_models(settings.model).items()
    }
