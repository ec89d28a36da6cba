"""A compiled reader on a CPU: its answers, and how often it is compiled."""

from typing import Any

import numpy as np
import pytest
import torch
from toy import NAMES, context_about

from qa_accel import Reader
from qa_accel.inference.compiled import CompiledModel
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


@pytest.mark.slow
def test_two_compiled_models_of_one_kind_keep_their_own_weights(toy):
    """Weights are constants of the compiled code. Breaks if the second model takes the code of the first."""
    models: list[Any] = [Reader(toy.model).qa.model for _ in range(2)]
    with torch.no_grad():
        models[1].qa_outputs.weight.neg_()
        models[1].qa_outputs.bias.neg_()
    ids = torch.arange(5, 35)[None].repeat(2, 1)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    with torch.inference_mode():
        one, other = (CompiledModel(model)(**given).start_logits for model in models)
        torch.testing.assert_close(one, models[0](**given).start_logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(other, -one, atol=1e-4, rtol=1e-4)
    assert one.abs().max() > 0.01
