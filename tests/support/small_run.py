"""A linear model with AdamW, saved and resumed as a run's checkpoints are; each function for a process of its own."""

from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from qa_accel.training import checkpoint, restoring
from qa_accel.training.part_settings import CheckpointConfig
from qa_accel.training.progress import Progress


def small_training() -> tuple[Accelerator, nn.Module, torch.optim.Optimizer]:
    accelerator = Accelerator(cpu=True)
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
    return accelerator, model, optimizer


def save_many(folder: Path, steps: list[int], keep: int) -> None:
    accelerator, _, _ = small_training()
    for step in steps:
        checkpoint.save(folder, accelerator, Progress(step=step), {}, keep=keep)


def train_a_little(folder: Path, identity: dict, allow_changes: bool, steps: int) -> tuple[str, list[float], dict]:
    """Resume from the folder's checkpoint if there is one, train, save; the loaded identity, the weights, the progress."""
    accelerator, model, optimizer = small_training()
    progress = Progress()
    found = checkpoint.find(CheckpointConfig(str(folder)), folder, print)
    loaded = None
    if found is not None:
        loaded = restoring.load(found, accelerator, progress, identity, print, allow_changes=allow_changes)
    for _ in range(steps):
        accelerator.backward(model(torch.ones(2, 3)).sum())
        optimizer.step()
        optimizer.zero_grad()
        progress.advance(accelerator.num_processes, 2)
    checkpoint.save(folder, accelerator, progress, identity, keep=2)
    weights = nn.utils.parameters_to_vector(accelerator.unwrap_model(model).parameters())
    return str(loaded), weights.tolist(), progress.state_dict()
