"""A training run's settings -> what one rank sees of its host: code, versions, folders, data, model, device.

For preflight, which compares what the ranks saw.
"""

import hashlib
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from qa_accel.data import sources
from qa_accel.data.questions import cache_folder
from qa_accel.inference.qa_model import load_tokenizer_and_config
from qa_accel.training.model_checks import teachers_of
from qa_accel.training.settings import TrainConfig

PACKAGE = Path(__file__).parents[1]

SECONDS_FOR_A_FILE = 8
"""A network file system may show another host's new file only after some seconds."""


@dataclass(frozen=True)
class HostProbe:
    """What one rank sees. Values that must be equal on all hosts are kept as short texts."""

    rank: int
    host: str
    device: str
    """Name of its device, and of a GPU its unique id."""
    gpus: int
    """GPUs that the process could use."""
    bytes_used: int
    """On its GPU, by anyone; 0 without one."""
    slurm_nodes: int | None
    """Nodes that Slurm promised, None outside of Slurm."""
    slurm_gpus: int | None
    """GPUs of this node that Slurm promised, None where it names none."""
    code: str
    """Digest of the package's and the scripts' files."""
    versions: str
    """Python, torch, transformers, accelerate."""
    commit: str
    """Of the checkout, empty where it is none."""
    data: str
    """Names and sizes of the data files, or what is wrong with them."""
    model: str
    """Digest of the model's config and of its and its teachers' files' sizes, or what is wrong with one of them."""
    sees_output: bool
    """Whether what rank 0 has just written in output_dir can be read here."""
    sees_cache: bool
    """The same of the cache folder."""
    cache_writable: bool


def probe_host(settings: TrainConfig, accelerator: Accelerator) -> HostProbe:
    """What this rank sees. All ranks must call: rank 0 leaves a note in each folder, which the others look for."""
    output, cache = Path(settings.checkpoint.output_dir), cache_folder(settings.data)
    sees_output = _sees_note(output, accelerator)
    sees_cache = _sees_note(cache, accelerator)
    device, used = accelerator.device.type.upper(), 0
    if accelerator.device.type == "cuda":
        free, total = torch.cuda.mem_get_info(accelerator.device)
        properties = torch.cuda.get_device_properties(accelerator.device)
        device, used = f"{properties.name} {getattr(properties, 'uuid', accelerator.device)}", total - free
    return HostProbe(
        rank=accelerator.process_index,
        host=socket.gethostname(),
        device=device,
        gpus=torch.cuda.device_count(),
        bytes_used=used,
        slurm_nodes=_number("SLURM_JOB_NUM_NODES"),
        slurm_gpus=_number("SLURM_GPUS_ON_NODE"),
        code=code_digest(),
        versions=", ".join(_versions()),
        commit=_commit(),
        data=_data(settings),
        model=_model(settings),
        sees_output=sees_output,
        sees_cache=sees_cache,
        cache_writable=_writable(cache),
    )


def code_digest() -> str:
    """Of the bytes of this package's modules and of the scripts next to the running one."""
    digest = hashlib.sha256()
    for folder, pattern in ((PACKAGE, "**/*.py"), (Path(sys.argv[0]).resolve().parent, "*.py")):
        for path in sorted(folder.glob(pattern)):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:10]


def _sees_note(folder: Path, accelerator: Accelerator) -> bool:
    """Whether a file that rank 0 writes now can be read here. All ranks must call."""
    box = [uuid.uuid4().hex]
    broadcast_object_list(box)
    note = folder / f".preflight-{box[0]}"
    if accelerator.is_main_process:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with note.open("x", encoding="utf-8") as file:
                file.write(box[0])
        except OSError:
            pass  # then no rank sees it, which is the result
    accelerator.wait_for_everyone()
    end = time.monotonic() + SECONDS_FOR_A_FILE
    while not (seen := _reads(note, box[0])) and time.monotonic() < end:
        time.sleep(0.5)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        note.unlink(missing_ok=True)
    return seen


def _reads(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except OSError:
        return False


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # a name that others could guess could be a link of theirs
            pass
    except OSError:
        return False
    return True


def _data(settings: TrainConfig) -> str:
    """Number and digest of the files' names and sizes; "!" and the reason where one is missing."""
    found = []
    for split in ("train", "validation"):
        patterns = getattr(settings.data, f"{split}_file")
        try:
            found += sources.find_files(patterns or (), f"{split}_file")
        except ValueError as error:
            return f"!{error}"
    if not found:
        return f"data set {settings.data.dataset_name}"
    listed = "\n".join(f"{path.name} {path.stat().st_size}" for path in found)
    return f"{len(found)} files {hashlib.sha256(listed.encode()).hexdigest()[:8]}"


def _model(settings: TrainConfig) -> str:
    try:
        tokenizer, model_config = load_tokenizer_and_config(settings.model, settings.windows)
        teachers = teachers_of(
            settings.distillation, settings.layers, settings.model, settings.windows, tokenizer, model_config
        )
    except ValueError as error:
        return f"!{error}"
    digest = hashlib.sha256(model_config.to_json_string().encode())
    for model in (settings.model, *(teacher.model for teacher in teachers)):
        folder = Path(model.model_name_or_path)
        if folder.is_dir():
            digest.update(repr(sorted((path.name, path.stat().st_size) for path in folder.glob("*.*"))).encode())
    return f"{model_config.model_type} {digest.hexdigest()[:8]}"


def _versions() -> list[str]:
    found = [f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "accelerate")]
    return [f"python {platform.python_version()}", *found]


def _commit() -> str:
    """Short name of the checkout's commit, empty where this is none or git is not installed."""
    try:
        command = ["git", "-C", str(PACKAGE), "rev-parse", "--short", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _number(variable: str) -> int | None:
    text = os.environ.get(variable, "")
    return int(text) if text.isdigit() else None
