"""Predictions and references in the form of the hub's `squad_v2` metric -> its figures, without a network.

`evaluate.load("squad_v2")` fetches code from a hub; this is an `evaluate.Metric` like any other, and may be added to
batch by batch, but its code is here. The arithmetic is in `squad_scores`.
"""

from collections import Counter
from typing import Any

import datasets
import evaluate

from qa_accel.answer_language import ENGLISH, AnswerLanguage
from qa_accel.evaluation.squad_scores import squad_scores
from qa_accel.messages import quoted

_INPUTS = """
Args:
    predictions: list of {"id", "prediction_text" ("" = no answer), "no_answer_probability" (any real number: higher
        means less likely to have an answer; null odds will do)}.
    references: list of {"id", "answers": {"text": list, "answer_start": list}}, empty lists = no answer. Matched to the
        predictions by id.
    no_answer_threshold: questions whose no_answer_probability is above it count as answered with "". Default 1.0, which
        leaves probabilities alone; for null odds give the threshold, or float("inf") to leave the texts as they are.
    answer_language: language whose rules compare the answers, an ISO 639-1 code or "char"; or a dict of id -> language. Default
        "en", the official definition.
"""


class SquadMetric(evaluate.Metric):
    """Official SQuAD v2.0 figures; on data in which every question has an answer (v1.1) without the NoAns_* keys."""

    def __init__(self, config_name: str | None = None, keep_in_memory: bool | None = None, **kwargs: Any):
        # In memory, unless several processes add to one metric through files: no cache folder, no lock file.
        super().__init__(
            config_name,
            keep_in_memory=kwargs.get("num_process", 1) == 1 if keep_in_memory is None else keep_in_memory,
            **kwargs,
        )

    def compute(
        self, *, predictions: list[dict] | None = None, references: list[dict] | None = None, **kwargs: Any
    ) -> dict[str, float | int] | None:
        """Figures of these questions, or of those that were added before."""
        if predictions is None or references is None or self.writer is not None or self.num_process > 1:
            return super().compute(predictions=predictions, references=references, **kwargs)
        # All is at hand: by way of Arrow, as questions that are added in batches go, it takes three times as long.
        return self._compute(predictions=predictions, references=references, **kwargs)

    def _build_data_dir(self) -> str:
        return "" if self.keep_in_memory else super()._build_data_dir()

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Exact match and F1 of extractive question answering with and without unanswerable questions.",
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(
                {
                    "predictions": {
                        "id": datasets.Value("string"),
                        "prediction_text": datasets.Value("string"),
                        # 64 bits, since a threshold found among float32 scores would not be one of those given
                        "no_answer_probability": datasets.Value("float64"),
                    },
                    "references": {
                        "id": datasets.Value("string"),
                        "answers": {
                            "text": datasets.List(datasets.Value("string")),
                            "answer_start": datasets.List(datasets.Value("int32")),
                        },
                    },
                }
            ),
        )

    def _compute(
        self,
        *,
        predictions: list[dict],
        references: list[dict],
        no_answer_threshold: float = 1.0,
        answer_language: AnswerLanguage = ENGLISH,
    ) -> dict[str, float | int]:
        try:
            by_id = {
                "predictions": {
                    row["id"]: (row["prediction_text"], row["no_answer_probability"]) for row in predictions
                },
                "references": {row["id"]: row["answers"]["text"] for row in references},
            }
        except (KeyError, TypeError) as error:
            raise ValueError(f"predictions and references must be lists of {self.features}; {error!r}") from error
        for name, rows in (("predictions", predictions), ("references", references)):
            if len(by_id[name]) < len(rows):
                key, times = Counter(row["id"] for row in rows).most_common(1)[0]
                raise ValueError(f"{name}: id {quoted(key)} comes {times} times; each question is scored once")
        return squad_scores(
            {key: text for key, (text, _) in by_id["predictions"].items()},
            by_id["references"],
            {key: score for key, (_, score) in by_id["predictions"].items()},
            no_answer_threshold,
            answer_language,
        )
