"""A compiled reader on a CPU: its answers, and how often it is compiled."""

from typing import Any

import numpy as np
import pytest
import torch
from toy import NAMES, context_about

from qa_accel import Reader
from qa_accel.training.compile import graphs_compiled


@pytest.mark.slow
def test_a_compiled_reader_is_not_compiled_again_for_other_lengths_and_batch_sizes(toy):
    """20 shapes, from one window to eight and from 16 to 128 tokens. Breaks if sizes become constants of the graph: one
    graph for batches, one for a window alone, which torch always takes for a constant."""
    eager, compiled = Reader(toy.model), Reader(toy.model, compile=True)
    models: list[Any] = [eager.qa.model, compiled.qa.model]
    before = graphs_compiled()
    seen = set()
    for number, (batch, length) in enumerate(zip([1, 8, 3, 5, 2] * 4, range(16, 136, 6), strict=True)):
        length = min(length, 128)
        seen.add((batch, length))
        ids = torch.from_numpy(np.random.default_rng(number).integers(5, 100, (batch, length)))
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
        given["attention_mask"][-1, length - 4 :] = 0
        with torch.inference_mode():
            expected, found = (model(**given) for model in models)
        for name in ("start_logits", "end_logits"):
            torch.testing.assert_close(
                found[name][:, : length - 4], expected[name][:, : length - 4], atol=1e-4, rtol=1e-4
            )
    assert len(seen) == 20
    assert 1 <= graphs_compiled() - before <= 2
    pairs = [(f"Where was {name} born?", context_about(name)) for name in NAMES]
    assert [a["text"] for a in compiled.answer_all(pairs)] == [a["text"] for a in eager.answer_all(pairs)]
    assert graphs_compiled() - before <= 2
