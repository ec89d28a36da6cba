"""The word embeddings' gradient summed by rows: the gradient of plain DDP, in fewer bytes."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import zoo
from processes import call
from training_runs import assert_same_weights
from transformers import AutoModelForQuestionAnswering

from qa_accel.bench.collectives import Call, Recorder
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import embedding_sums, gradient_sums
from qa_accel.distributed.accelerator import RuntimeConfig
from qa_accel.distributed.settings import GradientSumsConfig

WORDS, WIDTH = 500, 8
BATCHES = [[(5, 9), (20, 20)], [(45, 11), (8, 10)]]
"""Rank, accumulated batch -> number of the first of its tokens, and how many follow: 44 words in all."""


class Model(torch.nn.Module):
    """A table of words and a layer; `beside`: a row that is looked up for no token."""

    __module__ = "transformers.models.made_up"

    def __init__(self, beside: int | None):
        super().__init__()
        self.words, self.layer, self.beside = torch.nn.Embedding(WORDS, WIDTH), torch.nn.Linear(WIDTH, 2), beside
        self.config = SimpleNamespace(is_encoder_decoder=False)

    def get_input_embeddings(self) -> torch.nn.Embedding:
        return self.words

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.words(tokens)
        return self.layer(hidden if self.beside is None else hidden + self.words.weight[self.beside]).square().sum()


def of_a_step(
    apart: bool, hook: str = "no", beside: int | None = None, tokens: int | None = None
) -> tuple[dict[str, torch.Tensor], list[Call]]:
    """Name -> gradient after three steps of accumulated batches, and the collectives of the last."""
    accelerator = runtime.make_accelerator(RuntimeConfig(), training=True, gradient_accumulation_steps=2)
    config = GradientSumsConfig(hook)  # type: ignore[arg-type]
    torch.manual_seed(0)
    model: Any = Model(beside)
    with torch.no_grad():
        model.words.weight.add_(accelerator.process_index)  # as on a rank that loaded other weights
    if not apart:
        without_rows()
    optimizer = torch.optim.SGD(model.parameters())
    model, _, sums = gradient_sums.prepare(accelerator, model, optimizer, config, timeout=60)
    assert (sums is not None) == apart
    calls: list[Call] = []
    for step in range(3):  # in the second DDP forms its buckets again
        batches = [torch.arange(first, first + more) + 100 * step for first, more in BATCHES[accelerator.process_index]]
        if tokens is not None:
            batches[0] = torch.arange(tokens)
        model.zero_grad()
        with Recorder() as recorder:
            if sums is not None:
                sums.start(batches)
            for batch in batches:
                with accelerator.accumulate(model):
                    accelerator.backward(model(batch))
            if sums is not None:
                sums.finish()
        calls = recorder.calls
    return {name: weight.grad for name, weight in model.module.named_parameters()}, calls


def both(*arguments: Any, **options: Any) -> tuple[Any, Any, list[Call]]:
    """Gradients of plain DDP, gradients by rows, the same on both ranks, and the latter's collectives."""
    plain = call(of_a_step, False, *arguments, processes=2, **options)[0][0]
    (rows, calls), (other, _) = call(of_a_step, True, *arguments, processes=2, **options)
    assert all(torch.equal(rows[name], other[name]) for name in rows)
    return plain, rows, calls


def test_the_gradient_is_ddps_to_the_bit_and_only_rows_of_tokens_are_sent():
    """Breaks if a row of another rank's or batch's tokens is left out, if rows are summed and not averaged, if the table still goes
    through DDP, or if its weights on another rank are not those of rank 0."""
    plain, rows, calls = both()
    assert all(torch.equal(plain[name], rows[name]) for name in plain)
    found = (rows["words.weight"] != 0).any(dim=1)
    assert int(found.sum()) == 44 and bool(found[220] and found[255])
    # the tokens, DDP's bucket of the layer, the rows
    assert [one.bytes for one in calls] == [WORDS, 4 * (2 * WIDTH + 2), 4 * 44 * WIDTH]


@pytest.mark.parametrize(("hook", "near"), [("fp16", 2**-10), ("bf16", 2**-7)])
def test_a_hook_is_for_rows_too(hook, near):
    """Breaks if rows are sent in fp32, or if a sum in half precision becomes the type of the gradient."""
    plain, rows, calls = both(hook)
    assert calls[-1].bytes == 2 * 44 * WIDTH
    for name, gradient in plain.items():
        assert rows[name].dtype == torch.float32
        assert torch.all((rows[name] - gradient).abs() <= near * gradient.abs().max())


def test_a_model_that_looks_up_other_words_is_summed_whole():
    """Breaks if the row is lost, which a plain batch has not among its tokens: the ranks' weights would go apart."""
    plain, rows, calls = both("no", 499)
    assert bool(rows["words.weight"][499].any())
    assert all(torch.equal(plain[name], rows[name]) for name in plain)
    assert calls[-1].bytes == 4 * WORDS * WIDTH


def test_most_of_the_words_are_summed_as_all_of_them():
    """400 of 500 words. Breaks if the ranks do not take the same way."""
    plain, rows, calls = both("no", None, 400)
    assert all(torch.equal(plain[name], rows[name]) for name in plain)
    assert calls[-1].bytes == 4 * WORDS * WIDTH


def several_tables() -> Any:
    raise NotImplementedError("as transformers does of a model whose table it does not find")


def left_out(change: str) -> bool:
    accelerator = runtime.make_accelerator(RuntimeConfig(), training=True)
    model = Model(None)
    if change == "frozen":
        model.words.weight.requires_grad = False
    elif change == "decoder":
        model.config.is_encoder_decoder = True
    elif change == "sparse":
        model.words.sparse = True
    elif change == "code of its own":
        Model.__module__ = "transformers_modules.made_up"
    elif change == "several tables":
        model.get_input_embeddings = several_tables  # type: ignore[method-assign]
    found = embedding_sums.leave_out(accelerator, model) is not None
    assert found == hasattr(model, "_ddp_params_and_buffers_to_ignore")
    return found


@pytest.mark.parametrize(
    ("change", "processes", "expected"),
    [("", 2, True), ("", 1, False)]
    + [(each, 2, False) for each in ("frozen", "decoder", "sparse", "code of its own", "several tables")],
)
def test_what_is_left_to_ddp(change, processes, expected):
    """A decoder looks up its first token too. Breaks if DDP leaves out a table that nothing else sums."""
    assert call(left_out, change, processes=processes) == [expected] * processes


@pytest.mark.parametrize("name", sorted(zoo.KINDS.keys() - {"bart", "mbart", "t5"}))
def test_every_architecture_has_a_gradient_in_the_rows_of_its_tokens_alone(name, tmp_path):
    """13 tokens a row, so that models that pad within do. Breaks with a version of transformers whose model looks up another word:
    ranks whose first step does not show it would go apart."""
    model = AutoModelForQuestionAnswering.from_pretrained(zoo.make(name, tmp_path)).train()
    assert not model.config.is_encoder_decoder
    tokens = torch.randint(10, 30, (2, 13), generator=torch.Generator().manual_seed(0))
    tokens[:, [0, 6, 12]] = (
        zoo.tokenizer_of(zoo.KINDS[name].family).sep_token_id or 3
    )  # Longformer looks for separators
    found = model(input_ids=tokens)
    (found.start_logits.square().sum() + found.end_logits.square().sum()).backward()
    rows = (model.get_input_embeddings().weight.grad != 0).any(dim=1)
    assert rows.any() and set(rows.nonzero().flatten().tolist()) <= set(tokens.flatten().tolist())


def without_rows() -> None:
    """Let DDP sum the whole table."""
    gradient_sums.leave_out = lambda accelerator, model: None  # type: ignore[assignment]


def test_a_run_is_the_same_to_the_bit(trainer, tmp_path):
    """Two processes, accumulated batches, dropout. Breaks if a step goes on before its rows are summed, or if the norm that clips is
    that of the gradient before the sum."""
    length: dict[str, Any] = dict(max_train_steps=6, per_device_train_batch_size=2, gradient_accumulation_steps=2)
    trainer.whole(tmp_path / "rows", processes=2, **length)
    trainer.whole(tmp_path / "whole", processes=2, arrangements=[(without_rows,)], **length)
    assert_same_weights(tmp_path / "rows", tmp_path / "whole")
