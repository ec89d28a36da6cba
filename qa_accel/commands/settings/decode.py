"""Answer a prediction's questions again under other settings, from its saved logits: no model is loaded.

python scripts/decode.py runs/answers --output_dir runs/decoded --null_score_diff_threshold -1

runs/answers is the output_dir of predict.py --save_logits. What is not given is as it was there, and gives the same files.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from qa_accel.ranges import COUNT, check_ranges


@dataclass(frozen=True)
class DecodeConfig:
    prediction: tyro.conf.Positional[Path]
    """Folder that predict.py --save_logits wrote."""
    output_dir: str
    """Folder for predictions.json, nbest_predictions.json, null_odds.json, of a calibrated model confidences.json, with
    several answers answers.json and, where the data has answers, all_results.json; not that of the prediction."""
    answers: Literal["any", "all"] | None = None
    """`all`: list several answers per question; `any`: one. As in the prediction if not given."""
    n_best_size: int | None = None
    """Spans kept per window, and listed per question; as in the prediction if not given."""
    max_answer_length: int | None = None
    """Longest answer, in tokens; as in the prediction if not given."""
    null_score_diff_threshold: float | None = None
    """Null odds above which a question is answered with ""; as in the prediction if not given. inf: never; -inf: always."""
    min_confidence: float | None = None
    """Answer with "" below this confidence, 0 to 1; as in the prediction if not given."""
    min_answer_score: float | None = None
    """With --answers all, the least score of a listed answer, 0 to 1; as in the prediction if not given."""

    def __post_init__(self):
        check_ranges(self, n_best_size="[1, 10000]", max_answer_length=COUNT)
        check_ranges(self, null_score_diff_threshold="[-inf, inf]", min_confidence="[0, 1]")
        check_ranges(self, min_answer_score="[0, 1]")


Config = DecodeConfig
