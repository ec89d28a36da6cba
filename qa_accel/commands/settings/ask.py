"""Answer the questions of a file or a pipe as they come: one line of JSON for each, in their order.

qa-accel ask runs/squad_v2 questions.jsonl

Reads JSON lines or CSV, and with --context_file also plain text, a question per line. Without a file it reads stdin, and
answers each question when it arrives. stdout has the answers alone. Exit code 3: some rows have an "error" in place of an
answer.
"""

from dataclasses import dataclass
from typing import Literal

import tyro

from qa_accel.ranges import COUNT, check_ranges

STDIN = "-"


@dataclass(frozen=True)
class AskConfig:
    model_name_or_path: tyro.conf.Positional[str]
    """Folder or hub name of a fine-tuned model."""
    questions_file: tyro.conf.Positional[str] = STDIN
    """JSON lines, CSV or TSV, or with --context_file a question per line; `-` is stdin."""
    context_file: str | None = None
    """A text in UTF-8 that holds the answers to all questions that come without a context."""
    id_column: str = "id"
    """Column of the question's id, which comes back with its answer; a question without one gets its number, from 1."""
    question_column: str = "question"
    """Column of the question's text."""
    context_column: str = "context"
    """Column of the text that holds the answer."""
    top_k: int = 1
    """Answers per question; those after the best are listed under "alternatives"."""
    handle_impossible_answer: bool = True
    """Answer with "" where the model prefers "no answer", by its own threshold."""
    min_confidence: float | None = None
    """Answer with null below this confidence, 0 to 1. The model must be calibrated (scripts/calibrate.py)."""
    answers: Literal["any", "all"] = "any"
    """`all`: list all answers in the context under "answers", by the least score that the model stores or --min_answer_score."""
    min_answer_score: float | None = None
    """With --answers all, the least score of a listed answer, 0 to 1."""
    batch_size: int | None = None
    """Windows per forward pass; 8 on a CPU if not given, else 32. Four times as many questions are read at once."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of weights and products."""
    backend: Literal["torch", "onnx"] = "torch"
    """What computes: torch, or onnxruntime on the CPU, for a folder that scripts/export.py wrote."""
    device: str | None = None
    """As torch names it: cpu, cuda:1; the best there is if not given."""

    def __post_init__(self):
        check_ranges(self, top_k="[1, 10000]", min_confidence="[0, 1]", batch_size=COUNT)
        check_ranges(self, min_answer_score="[0, 1]")
        if self.min_answer_score is not None and self.answers != "all":
            raise ValueError(f"--min_answer_score {self.min_answer_score} needs --answers all")
        columns = (self.id_column, self.question_column, self.context_column)
        if "" in columns or len(set(columns)) < len(columns):
            raise ValueError(f"id, question and context need three different column names, got {list(columns)}")


Config = AskConfig
