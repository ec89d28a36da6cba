"""A model whose logits a test chooses: they are put in the place of what the real model computed.

They depend on a token and on its place in the window, never on the batch or its padding, so that the same window has the
same logits wherever it is computed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

Table = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Token ids and their places, of any shape -> start and end logits of that shape, float32."""


def random_logits(seed: int, scale: float = 3.0) -> Table:
    """Normal, with this standard deviation; the same for the same token at the same place."""
    drawn = np.random.default_rng(seed).normal(scale=scale, size=(2, 509, 997)).astype(np.float32)
    return lambda ids, places: (drawn[0][places % 509, ids % 997], drawn[1][places % 509, ids % 997])


def peaks(starts: dict[int, float], ends: dict[int, float]) -> Table:
    """0, and these logits where a token has one of these ids."""

    def logits(ids: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return heights(starts, ids), heights(ends, ids)

    def heights(chosen: dict[int, float], ids: np.ndarray) -> np.ndarray:
        return np.array([chosen.get(number, 0.0) for number in ids.flat], np.float32).reshape(ids.shape)

    return logits


def of_window(table: Table, ids: list[int]) -> tuple[list[float], list[float]]:
    """Logits of one window without padding."""
    start, end = table(np.array(ids), np.arange(len(ids)))
    return start.tolist(), end.tolist()


@contextmanager
def given(model: torch.nn.Module, table: Table) -> Iterator[list[int]]:
    """Within the block the model gives these logits. Yields a list that gets the rows of each forward pass."""
    rows: list[int] = []

    def replace(module: Any, arguments: Any, named: dict[str, torch.Tensor], output: Any) -> Any:
        ids, mask = named["input_ids"].numpy(), named["attention_mask"].numpy()
        start, end = table(ids, np.maximum(mask.cumsum(1) - 1, 0))
        output.start_logits, output.end_logits = torch.from_numpy(start), torch.from_numpy(end)
        rows.append(len(ids))
        return output

    hook = model.register_forward_hook(replace, with_kwargs=True)
    try:
        yield rows
    finally:
        hook.remove()
