"""python quickstart/make_encoder.py: wording.yaml and the train half of the tables -> encoder/, a small BERT and its WordPiece vocabulary.

The encoder sees no question, no real fact, and no name of a dev entity. Its text describes made-up entities
(synthetic_entities.py). Its one task is to point:

    [CLS] the birthplace of korvel dastin was [MASK] [SEP] korvel dastin, born in 1754, came from ebbenz. ... [SEP]

One statement about one entity, its value blanked, then a paragraph that states the same fact, mostly in other words (the model
points at the value), or does not state it (the model points at [CLS]). Three hints per word of the paragraph speed this up: is it
part of the entity's name, is it part of a value of that entity, is it part of a value of that relation. So it learns to match
names that it has never seen and to compare statements; the meaning of questions and the content of the real corpus are left to
fine-tuning. The heads for pointing and for the hints are discarded.

2,800 steps take 1,067 CPU seconds on one (shared) core with AVX512-BF16, 2,100 on one with AVX2 alone. The vocabulary differs a little
from run to run: the trainer of the tokenizers library breaks ties at random. README.md says how encoder/ was made, and what is in it.
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from make_corpus import HERE, SEED, make_corpus, read_entities, read_wording, split_entities
from synthetic_entities import HINTS, Example, MadeUpWorld, pointing_examples
from templates import Verbalizer
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertForQuestionAnswering, BertTokenizer

LONGEST = 384  # positions that training reaches
HINT_LAYERS = (2, 3, 3)  # the layer whose output each hint is read from
HINT_WEIGHT = 3.0
Batch = tuple[dict[str, torch.Tensor], torch.Tensor]


def make_tokenizer(
    world: MadeUpWorld, verbalizer: Verbalizer, vocab_size: int, old: Path | None, folder: Path
) -> BertTokenizer:
    """Vocabulary of the train file (questions included, as text) and of made-up paragraphs; or the old one again."""
    texts: list[str] = []
    for article in make_corpus()["train"]["data"]:
        for paragraph in article["paragraphs"]:
            texts += [paragraph["context"], *(row["question"] for row in paragraph["qas"])]
    examples = pointing_examples(world, verbalizer, sizes=[2, 3, 4], same_words=0.0)
    # drawn for the old one too: all later draws depend on these
    texts += [next(examples).context for _ in range(6000)]
    texts += [str(year) for year in range(1000, 2030)]
    folder.mkdir(parents=True, exist_ok=True)
    if old is not None:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(old / name, folder / name)
    else:
        trainer = BertWordPieceTokenizer(lowercase=True)
        trainer.train_from_iterator(texts, vocab_size=vocab_size, min_frequency=2, show_progress=False)
        trainer.save_model(str(folder))
        trained = BertTokenizer(vocab=str(folder / "vocab.txt"), do_lower_case=True, model_max_length=512)
        trained.save_pretrained(folder)
        (folder / "vocab.txt").unlink()
    return BertTokenizer.from_pretrained(folder)


def batch_of(examples: Sequence[Example], tokenizer: BertTokenizer) -> Batch:
    """The model's inputs with labels, and the hints (B, T, 3) as 0 or 1."""
    pairs = tokenizer(
        [example.statement for example in examples],
        [example.context for example in examples],
        padding=True,
        truncation="only_second",
        max_length=LONGEST,
        return_offsets_mapping=True,
        return_tensors="pt",
    )
    offsets_BT2 = pairs.pop("offset_mapping")
    in_context_BT = (pairs["token_type_ids"] == 1) & (offsets_BT2[..., 1] > offsets_BT2[..., 0])
    hints_BTH = torch.zeros(*in_context_BT.shape, len(HINTS))
    starts, ends = [], []
    for row, example in enumerate(examples):
        for hint, spans in enumerate(example.marks):
            for begin, end in spans:
                inside_T = (offsets_BT2[row, :, 0] >= begin) & (offsets_BT2[row, :, 1] <= end) & in_context_BT[row]
                hints_BTH[row, :, hint] += inside_T
        begin, end = example.answer or (0, 0)
        starts.append(pairs.char_to_token(row, begin, 1) or 0 if example.answer else 0)
        ends.append(pairs.char_to_token(row, end - 1, 1) or 0 if example.answer else 0)
    # Paragraphs are short, windows are not: half of the paragraphs are shifted to the right, as if text came before them.
    room = LONGEST - in_context_BT.shape[1]
    shift_B1 = torch.randint(0, room + 1, (len(examples), 1)) * torch.randint(0, 2, (len(examples), 1))
    position_ids_BT = torch.arange(in_context_BT.shape[1]) + shift_B1 * pairs["token_type_ids"]
    labels = {"start_positions": torch.tensor(starts), "end_positions": torch.tensor(ends)}
    return {**pairs, **labels, "position_ids": position_ids_BT}, hints_BTH.clamp(max=1)


def batches(examples: Iterator[Example], size: int, tokenizer: BertTokenizer, rng: random.Random) -> Iterator[Batch]:
    """Batches of rows of about one length."""
    while True:
        chunk = sorted(
            (next(examples) for _ in range(20 * size)),
            key=lambda example: len(example.statement) + len(example.context),
        )
        groups = [chunk[i : i + size] for i in range(0, len(chunk), size)]
        rng.shuffle(groups)
        for group in groups:
            yield batch_of(group, tokenizer)


def new_model(tokenizer: BertTokenizer, depth: int, width: int, inner: int, heads: int) -> BertForQuestionAnswering:
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=512,
        initializer_range=0.05,
        # dropout costs a CPU a third of its time, and the text never repeats
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    config._attn_implementation = "eager"  # on a CPU twice as fast in training as the fused kernel
    model = BertForQuestionAnswering(config)
    # An initialization from which matching is learned quickly. A quarter of the width encodes the position (sinusoids), the rest
    # the word. Queries equal keys; half of the heads see positions only, and so attend to the neighbourhood, half see words only,
    # and so attend to the same word elsewhere.
    place = width // 4
    embeddings = model.bert.embeddings
    with torch.no_grad():
        wave_D = 400.0 ** (-torch.arange(place // 2) / (place // 2 - 1))
        angle_PD = torch.arange(config.max_position_embeddings)[:, None] * wave_D
        embeddings.position_embeddings.weight.zero_()[:, :place] = 0.7 * torch.cat([angle_PD.sin(), angle_PD.cos()], 1)
        embeddings.word_embeddings.weight.normal_(0, 0.5)[:, :place] = 0
        embeddings.token_type_embeddings.weight.normal_(0, 0.3)[:, :place] = 0
        layers: Any = model.bert.encoder.layer
        for layer in layers:
            attention = layer.attention.self
            query_OI = attention.query.weight.zero_()
            query_OI[: width // 2, :place].normal_(0, place**-0.5)
            query_OI[width // 2 :, place:].normal_(0, (width - place) ** -0.5)
            attention.key.weight.copy_(query_OI)
    return model


def train(model: BertForQuestionAnswering, easy: Iterator, full: Iterator, args: argparse.Namespace) -> None:
    hint_head = torch.nn.ModuleList(torch.nn.Linear(model.config.hidden_size, 1) for _ in HINTS)
    parameters = [*model.parameters(), *hint_head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=args.learning_rate, weight_decay=0.01, betas=(0.9, 0.98), fused=True)
    has_bf16_units = torch.cpu._is_avx512_bf16_supported()  # without them bf16 is 50 times slower than fp32
    began, sums = time.process_time(), Counter()
    for step in range(args.steps):
        rate = min(1, (step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * step / args.steps))
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * max(rate, 0.01)
        batch, hints_BTH = next(easy if step < args.easy_share * args.steps else full)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16_units):
            output = model(**batch, output_hidden_states=True)
            seen = [head(output.hidden_states[layer]) for head, layer in zip(hint_head, HINT_LAYERS)]
        in_paragraph_BT1 = batch["token_type_ids"][..., None]
        hint_loss_BTH = F.binary_cross_entropy_with_logits(torch.cat(seen, -1).float(), hints_BTH, reduction="none")
        hint_loss_H = (hint_loss_BTH * in_paragraph_BT1).sum((0, 1)) / in_paragraph_BT1.sum()
        (output.loss + HINT_WEIGHT * hint_loss_H.sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        start_right_B = output.start_logits.argmax(-1) == batch["start_positions"]
        end_right_B = output.end_logits.argmax(-1) == batch["end_positions"]
        sums.update(rows=len(start_right_B), right=int((start_right_B & end_right_B).sum()), steps=1)
        sums["loss"] += output.loss.item()
        for name, value in zip(HINTS, hint_loss_H.tolist()):
            sums[name] += value
        if (step + 1) % 50 == 0:
            losses = " ".join(f"{name} {sums[name] / sums['steps']:.3f}" for name in ("loss", *HINTS))
            seconds = time.process_time() - began
            print(
                f"{step + 1}: {losses}, right {sums['right'] / sums['rows']:.3f}, {seconds:.0f} CPU seconds", flush=True
            )
            sums = Counter()


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=HERE / "encoder")
    parser.add_argument("--start_from", type=Path, help="folder of an encoder to train further, with its tokenizer")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--inner", type=int, default=512)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--vocab_size", type=int, default=5000)
    parser.add_argument("--learning_rate", type=float, default=1.5e-3)
    parser.add_argument("--batch_size", type=int, default=48)
    parser.add_argument("--steps", type=int, default=2800)
    parser.add_argument("--easy_share", type=float, default=0.27, help="steps on paragraphs of two entities first")
    return parser.parse_args()


def main() -> None:
    args = read_arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    wording = read_wording()
    entities = read_entities(wording)
    # the split of the corpus, whatever the seed here
    train_entities = split_entities(entities, random.Random(SEED))["train"]
    verbalizer, plain_verbalizer = Verbalizer(wording, rng), Verbalizer(wording, rng, relations=(1, 1, 2))
    world = MadeUpWorld(train_entities, {entity.name for entity in entities}, wording, rng)
    tokenizer = make_tokenizer(world, verbalizer, args.vocab_size, args.start_from, args.output_dir)
    if args.start_from is None:
        model = new_model(tokenizer, args.layers, args.width, args.inner, args.heads)
    else:
        model = BertForQuestionAnswering.from_pretrained(
            args.start_from, dtype=torch.float32, attn_implementation="eager"
        )
    easy = pointing_examples(world, plain_verbalizer, sizes=[2], same_words=0.7)
    full = pointing_examples(world, verbalizer, sizes=[2, 3, 3, 4], same_words=0.2)
    train(model, batches(easy, args.batch_size, tokenizer, rng), batches(full, args.batch_size, tokenizer, rng), args)
    model.bert.half().save_pretrained(args.output_dir)


if __name__ == "__main__":
    main()
