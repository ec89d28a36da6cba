"""A fine-tuned model in memory that answers questions from Python."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import datasets
from accelerate import Accelerator

from qa_accel.batching.mode import BatchingConfig
from qa_accel.data.pair_tokenizer import PairTokenizer
from qa_accel.data.splits import Split
from qa_accel.data.windows import GoldSpans, WindowConfig
from qa_accel.distributed import accelerator as runtime
from qa_accel.inference.postprocess import SpanConfig
from qa_accel.inference.predictor import answer_split
from qa_accel.inference.qa_model import load_task
from qa_accel.messages import shown
from qa_accel.models.loading import ModelConfig, quiet


def question_and_context(given: Any, row: int) -> tuple[str, str]:
    """The two texts of one input. Raises ValueError, with the row, for anything else."""
    question: Any
    context: Any
    if isinstance(given, Mapping):
        question, context = given.get("question"), given.get("context")
    elif isinstance(given, (tuple, list)) and len(given) == 2:
        question, context = given
    else:
        raise ValueError(
            f"row {row}: {shown(given)}; expected (question, context), or a mapping with the keys question and context"
        )
    for name, text in (("question", question), ("context", context)):
        if not isinstance(text, str):
            raise ValueError(f"row {row}: the {name} is {shown(text)}; text is expected")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"row {row}: character {error.start} of the {name} is half of a surrogate pair, which is not a character"
            ) from None
    return question, context


class Reader:
    """A fine-tuned model in memory that answers questions, one at a time or many at once.

    >>> reader = Reader("runs/quickstart")
    >>> reader.answer("What is the capital of Peru?", "Lima is the capital of Peru.")["text"]
    'Lima'
    """

    def __init__(
        self,
        model_name_or_path: str | Path,
        *,
        windows: WindowConfig | None = None,
        spans: SpanConfig | None = None,
        batch_size: int = 32,
        accelerator: Accelerator | None = None,
    ):
        """Raises ValueError for a model that cannot be used: damaged, without a trained head or a fast tokenizer."""
        if type(batch_size) is not int or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number of at least 1, got {batch_size!r}")
        if isinstance(model_name_or_path, Path):
            model_name_or_path = str(model_name_or_path)
        self.windows = windows or WindowConfig()
        self.accelerator = accelerator or runtime.make_accelerator(runtime.RuntimeConfig())
        with quiet():
            task = load_task(ModelConfig(model_name_or_path), self.windows, BatchingConfig(), self.accelerator)
            qa = task.load_model(trained=True)
        self.qa = qa.with_model(self.accelerator.prepare_model(qa.model, evaluation_mode=True))
        self.spans = qa.answer_policy.apply(spans or SpanConfig())
        self.batch_size = batch_size

    def answer(self, question: str, context: str) -> dict[str, Any]:
        """The best answer: text ("" for none), start and end in characters of `context`, probability, null_odds, nbest."""
        return self.answer_all([(question, context)])[0]

    def answer_all(self, pairs: Iterable[tuple[str, str] | Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Answers in the order of `pairs`: (question, context), or mappings with the keys `question` and `context`.

        Raises ValueError, with the row, for anything that is not two texts.
        """
        if isinstance(pairs, (str, bytes, Mapping)) or not isinstance(pairs, Iterable):
            raise ValueError(
                f"{shown(pairs)}: expected a list, or any other iterable, of (question, context) pairs or of mappings with "
                "the keys question and context"
            )
        pairs = [question_and_context(given, row) for row, given in enumerate(pairs)]
        if not pairs:
            return []
        questions = datasets.Dataset.from_dict(
            {
                "id": [str(row) for row in range(len(pairs))],
                "question": [question for question, _ in pairs],
                "context": [context for _, context in pairs],
            }
        )
        windows = PairTokenizer(self.qa.tokenizer, self.windows).tokenize_pairs(
            questions["question"], questions["context"], GoldSpans.none()
        )
        batch_plan, collate = self.qa.evaluation_batches(windows, self.batch_size)
        answers = answer_split(
            self.accelerator,
            self.qa.model,
            Split(questions, windows),
            collate,
            batch_plan,
            self.spans,
            version_2_with_negative=True,
        )
        assert answers is not None, "a reader has one process"
        found = []
        for key in questions["id"][:]:
            entry = next(entry for entry in answers.nbest[key] if entry["text"] == answers.predictions[key])
            found.append({**entry, "null_odds": answers.null_odds[key], "nbest": answers.nbest[key]})
        return found
