"""Answer questions over HTTP, from programs and on a page, with one or several models."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from qa_accel.commands.settings.serve import ServeConfig, named_models

if TYPE_CHECKING:
    from qa_accel.inference.reader import Reader

logger = logging.getLogger(__name__)

KEY_VARIABLE = "QA_ACCEL_API_KEY"
SHORTEST_KEY = 16
"""Characters: a shorter one can be guessed."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")

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
