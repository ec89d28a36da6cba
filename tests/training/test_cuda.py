"""What only a GPU can show: the compiled step trains like the plain one, and packed attention's kernel like padded rows."""

import copy

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForQuestionAnswering

from qa_accel.batching import collate as collate_module
from qa_accel.batching import mode, plan
from qa_accel.batching.settings import BatchingConfig
from qa_accel.bench import steps, synthetic
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import strategy
from qa_accel.models.loading import ModelInputs
from qa_accel.training import compile as compile_module
from qa_accel.training import optim, step
from qa_accel.training.epochs import EpochPlans
from qa_accel.training.part_settings import CompileConfig, LoopConfig

pytestmark = pytest.mark.cuda

STEPS = 12


def small_model(kind: str = "bert"):
    torch.manual_seed(0)
    special = {"modernbert": dict(pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2)}
    config = AutoConfig.for_model(
        kind,
        vocab_size=2000,
        hidden_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=512,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **special.get(kind, {}),
    )
    return AutoModelForQuestionAnswering.from_config(config, dtype=torch.float32)


def trained(
    qa_model, precision: str, batching: str, compile: str, accumulation: int = 1
) -> tuple[torch.nn.Module, torch.Tensor, step.OptimizerStep]:
    """The model after STEPS steps over the same windows, and each step's loss."""
    runtime.forget_accelerator()
    torch._dynamo.reset()
    accelerator = runtime.make_accelerator(
        runtime.RuntimeConfig(), mixed_precision=precision, gradient_accumulation_steps=accumulation
    )
    windows = synthetic.squad_like_windows(16 * STEPS - 5, 2000)  # the last step is not full
    how = mode.choose(
        BatchingConfig(batching),
        qa_model.config,
        **strategy.placement(accelerator),
        training=True,
    )  # type: ignore[arg-type]
    qa_model = how.set_up(qa_model)
    loop = LoopConfig(per_device_train_batch_size=16 // accumulation, gradient_accumulation_steps=accumulation)
    epochs = EpochPlans(loop, windows.lengths_W, seed=0, world_size=1, packed=True)
    epoch_plan = epochs.plan(0)
    collate = how.collator(windows, steps.TOKENIZER, ModelInputs.of(qa_model), [epoch_plan], 384)
    loss = compile_module.LossFunction(CompileConfig(compile), accelerator, qa_model, packed=how.packed)  # type: ignore[arg-type]
    if accelerator.scaler is not None:  # the default's first steps may overflow, and what is skipped cannot be compared
        accelerator.scaler = torch.amp.GradScaler("cuda", init_scale=256.0)
    # such an epsilon makes AdamW's step follow the gradient's size, so that one clipped otherwise goes another way
    settings = optim.OptimConfig(learning_rate=0.1, adam_epsilon=1.0)
    prepared, optimizer = accelerator.prepare(qa_model, optim.make_optimizer(qa_model, settings))
    schedule = optim.make_schedule(optimizer, settings, STEPS)
    one_step = step.OptimizerStep(accelerator, prepared, loss, optimizer, max_grad_norm=1.0, capture=loss.whole_step)
    prepared.train()
    ready = iter(collate_module.batch_loader(collate, plan.rank_batches(epoch_plan, 0), pin_memory=True))
    losses = []
    for step_plan in epoch_plan:
        real = int((step_plan != plan.NOTHING).sum())
        result = one_step([next(ready) for _ in step_plan], windows=real)
        losses.append(result.loss_sum / real)
        assert torch.isfinite(result.grad_norm)
        schedule.step()
    assert all(isinstance(group["lr"], float) for group in optimizer.param_groups), "a checkpoint holds plain numbers"
    return qa_model, torch.stack(losses).cpu(), one_step


def moved(before: torch.nn.Module, after: torch.nn.Module) -> torch.Tensor:
    pairs = zip(before.parameters(), after.parameters())
    return torch.cat([(b.detach().cpu() - a.detach().cpu()).flatten() for a, b in pairs])


@pytest.mark.parametrize(
    ("kind", "precision", "accumulation"),
    [("bert", "bf16", 1), ("bert", "bf16", 2), ("modernbert", "bf16", 1), ("bert", "fp16", 1), ("bert", "fp16", 2)],
)
def test_the_compiled_step_trains_like_the_plain_one(kind, precision, accumulation):
    """Packed, in bf16 as a replayed graph, against padded fp32, kernel by kernel: no dropout, the same windows and rates.

    Breaks if a replay reads an old batch, an old learning rate or an old divisor, or clips or accumulates otherwise; in fp16,
    which is compiled and not captured, if gradients are clipped while they are scaled.
    """
    first = small_model(kind)
    plain, plain_losses, _ = trained(copy.deepcopy(first), "no", "padded", "off", accumulation)
    compiled, losses, one_step = trained(copy.deepcopy(first), precision, "packed", "auto", accumulation)
    assert (one_step.graph is not None) == (precision == "bf16")
    torch.testing.assert_close(losses, plain_losses, atol=0.02, rtol=0.005)
    reference, ours = moved(first, plain), moved(first, compiled)
    likeness = torch.nn.functional.cosine_similarity(reference, ours, dim=0)
    assert likeness > 0.995
    assert 0.99 < ours.norm() / reference.norm() < 1.01


def test_packed_logits_on_the_device_equal_padded_ones():
    """bf16 kernel against fp32 rows of one window each, on the same weights."""
    qa_model = small_model().cuda().eval()
    windows = synthetic.squad_like_windows(40, 2000)
    index = np.arange(24)
    padded = collate_module.PaddedCollator(windows, pad_token_id=0, token_type_ids=True)(index).to("cuda")
    row = plan.row_tokens(windows.lengths_W, [index[None, None, None]])
    packed = collate_module.PackedCollator(windows, row_tokens=row, max_length=384, pad_token_id=0, token_type_ids=True)
    with torch.no_grad():
        output = qa_model(**padded.inputs)
        expected, _, token_BL = collate_module.window_logits(output.start_logits, output.end_logits, padded)
        mode.use_packed_attention(qa_model)
        batch = packed(index).to("cuda")
        with torch.autocast("cuda", torch.bfloat16):
            output = qa_model(**batch.inputs)
        ours, _, _ = collate_module.window_logits(output.start_logits, output.end_logits, batch)
    ours = ours[:, : expected.shape[1]]
    assert expected[token_BL].std() > 0.1
    torch.testing.assert_close(ours[token_BL], expected[token_BL], atol=0.03, rtol=0.03)
