"""python tests/studies/ranking.py --model FOLDER --validation_file dev.json [--candidates candidates.npz]

Which quantity should rank spans of different windows and documents, and which figure says best that none of them holds the
answer? Questions are asked of their own paragraph, of long texts around it, and of collections with distractors; from what
the decoder knows of each window every candidate follows. Prints tables in Markdown. A distractor may hold the answer to an
unanswerable question; where it does, answering counts as wrong. With --candidates the model runs only if the file is absent.
"""

import support_path  # noqa: F401

# isort: split


import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

if __name__ == "__main__":  # under pytest, conftest.py does this
    os.environ.update({"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"})
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import ranking_windows
from ranking_documents import KINDS, Documents, Questions, make_documents, read_questions
from ranking_quantities import FIGURES, RANKINGS, Collection, best_texts, collection_of, right
from ranking_statistics import (
    auroc,
    best_score,
    bootstrap_weights,
    calibration_error_by_chance,
    expected_calibration_error,
    logistic_fit,
    mean,
    probability,
)

from qa_accel.data.settings import WindowConfig

COLLECTIONS = {
    "own": {"own": 1},
    "4 joined": {"long4": 1},
    "10 joined": {"long10": 1},
    "5 same": {"own": 1, "same": 5},
    "20 same": {"own": 1, "same": 20},
    "5 other": {"own": 1, "other": 5},
    "20 other": {"own": 1, "other": 20},
}
LOGITS, NULL_ODDS = next(iter(RANKINGS)), next(iter(FIGURES))
OWN_NULL = "s + e - null of the window", "best of (s + e - null of the window)"
OWN_PROBABILITY = "probability: s + e - lse", "highest probability"
TRANSFERRED = NULL_ODDS, "best of the documents' null odds", "least probability of null", "highest probability"


@dataclass(frozen=True)
class Study:
    questions: Questions
    documents: Documents
    collections: dict[str, Collection]
    """By name, of the sampled questions."""
    own: Collection
    """All questions with their own paragraph."""


def make_study(questions: Questions, documents: Documents, found: ranking_windows.Found) -> Study:
    sampled_D = np.isin(documents.question_D, documents.question_D[documents.kind_D == KINDS.index("long4")])
    collections = {
        name: collection_of(found, documents, questions, documents.collection(**most) & sampled_D)
        for name, most in COLLECTIONS.items()
        if (documents.kind_D[documents.collection(**most)] == KINDS.index(list(most)[-1])).any()
    }
    return Study(
        questions, documents, collections, collection_of(found, documents, questions, documents.collection(own=1))
    )


def with_difference(value_R: np.ndarray, baseline_R: np.ndarray, decimals: int) -> str:
    """The value and, where it is not the baseline's, the difference with half of its 95 % interval."""
    text = f"{value_R[0]:.{decimals}f}"
    difference_R = value_R - baseline_R
    if not difference_R.any():
        return text
    return f"{text} ({difference_R[0]:+.{decimals}f} ± {1.96 * difference_R[1:].std():.{decimals}f})"


def table(title: str, columns: list[str], rows: Iterator[list[str]]) -> str:
    lines = [f"| {title} | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def sizes(study: Study) -> Iterator[list[str]]:
    for name, c in study.collections.items():
        per_question = len(c.windows.span_W) / len(c.row_Q)
        yield [name, f"{len(c.row_Q)}", f"{c.answerable_Q.sum()}", f"{len(c.windows.span_W)}", f"{per_question:.1f}"]


def compared(
    study: Study, statistics: dict[str, Callable[[Collection], np.ndarray]], decimals: int
) -> Iterator[list[str]]:
    """A row per statistic, with its difference from the first; a last column has the mean over all collections but `own`.

    Every resample draws the same questions in all collections, so the intervals of the mean are paired over them, too.
    """
    baselines: list[np.ndarray] = []
    for name, statistic in statistics.items():
        columns = [statistic(c) for c in study.collections.values()]
        columns.append(np.mean(columns[1:], axis=0))
        baselines = baselines or columns
        yield [name, *(with_difference(*pair, decimals) for pair in zip(columns, baselines))]


def rankings(study: Study, column: int) -> Iterator[list[str]]:
    """Exact match (column 0) or F1 (1) of the best span over the questions that have an answer."""

    def score(c: Collection, ranking: str) -> np.ndarray:
        right_Q = right(c, study.questions, ranking)[c.answerable_Q, column]
        return 100 * mean(right_Q, bootstrap_weights(len(right_Q)))

    return compared(study, {name: partial(score, ranking=name) for name in RANKINGS}, 1)


def answerability(study: Study) -> Iterator[list[str]]:
    def area(c: Collection, figure: str) -> np.ndarray:
        return auroc(FIGURES[figure](c), c.answerable_Q, bootstrap_weights(len(c.row_Q)))

    return compared(study, {name: partial(area, figure=name) for name in FIGURES}, 3)


def best_f1(study: Study) -> Iterator[list[str]]:
    """At the best threshold of each figure, ranked by the logits; then two rankings, each with a figure of its own kind."""

    def score(c: Collection, ranking: str, figure: str) -> np.ndarray:
        right_Q, weights_RQ = right(c, study.questions, ranking)[:, 1], bootstrap_weights(len(c.row_Q))
        return 100 * best_score(right_Q, c.answerable_Q, FIGURES[figure](c), weights_RQ)

    pairs = [*((LOGITS, name) for name in FIGURES), OWN_NULL, OWN_PROBABILITY]
    return compared(study, {" / ".join(pair): partial(score, ranking=pair[0], figure=pair[1]) for pair in pairs}, 1)


def cross_fitted(figure_Q: np.ndarray, positive_Q: np.ndarray) -> np.ndarray:
    """Probability of each question by a fit on the other half of them."""
    half_Q = np.random.default_rng(0).permutation(len(figure_Q)) % 2 == 0
    p_Q = np.zeros(len(figure_Q))
    for fitted_Q in (half_Q, ~half_Q):
        weight, bias = logistic_fit(figure_Q[fitted_Q], positive_Q[fitted_Q])
        p_Q[~fitted_Q] = probability(weight * figure_Q[~fitted_Q] + bias)
    return p_Q


def calibrations(study: Study) -> Iterator[list[str]]:
    """ECE of each figure after a logistic fit on half of the collection's questions, on the other half, and back."""
    for name, figure in FIGURES.items():
        row = [name]
        for c in study.collections.values():
            p_Q = cross_fitted(figure(c), c.answerable_Q)
            row.append(f"{expected_calibration_error(p_Q, c.answerable_Q):.3f}")
        yield row


def transferred(study: Study, figure_name: str) -> Iterator[list[str]]:
    """A fit on single paragraphs, of questions outside of the sample where there are any, used on each collection.

    Cells: mean probability of an answer, ECE (and what it is by chance if the probabilities are true), Brier score, AUROC.
    """
    figure = FIGURES[figure_name]
    sampled_Q = np.isin(study.own.row_Q, study.collections["own"].row_Q)
    fitted_Q = ~sampled_Q if not sampled_Q.all() else sampled_Q
    weight, bias = logistic_fit(figure(study.own)[fitted_Q], study.own.answerable_Q[fitted_Q])
    rows: dict[str, list[str]] = {}
    for c in study.collections.values():
        p_D = probability(weight * _by_document(c, figure_name) + bias)
        none_Q = np.multiply.reduceat(1 - p_D, c.first_document_Q)
        for name, p_Q in {
            "the fit applied to the whole collection's figure": probability(weight * figure(c) + bias),
            "1 - product of (1 - p of the document)": 1 - none_Q,
            "highest p of a document": np.maximum.reduceat(p_D, c.first_document_Q),
            "fitted on the collection itself": cross_fitted(figure(c), c.answerable_Q),
        }.items():
            area = auroc(p_Q, c.answerable_Q, np.ones((1, len(p_Q))))[0]
            error = expected_calibration_error(p_Q, c.answerable_Q)
            chance, brier = calibration_error_by_chance(p_Q), np.mean((p_Q - c.answerable_Q) ** 2)
            cell = f"{p_Q.mean():.2f}, {error:.3f} ({chance:.3f}), {brier:.3f}, {area:.3f}"
            rows.setdefault(name, [name]).append(cell)
        distractor_D = ~np.isin(np.arange(len(p_D)), c.first_document_Q)
        cell = f"{p_D[distractor_D].mean():.2f}" if distractor_D.any() else "none"
        rows.setdefault("mean p of a distractor", ["mean p of a distractor"]).append(cell)
    yield from rows.values()


def _by_document(c: Collection, figure_name: str) -> np.ndarray:
    """D: the figure of each document as if it were all of the question's."""
    alone = Collection(
        c.windows,
        c.document_W,
        c.first_window_D,
        np.arange(len(c.first_window_D)),
        c.first_window_D,
        c.row_Q,
        c.answerable_Q,
    )
    return FIGURES[figure_name](alone)


def changed(study: Study) -> Iterator[list[str]]:
    """Best spans of questions with their own paragraph that are not the logits' choice."""
    of_logits = best_texts(study.own, LOGITS)
    windows_Q = np.diff(np.append(study.own.first_window_Q, len(study.own.windows.span_W)))
    for name in RANKINGS:
        count = sum(one != other for one, other in zip(best_texts(study.own, name), of_logits))
        right_Q2 = right(study.own, study.questions, name)[study.own.answerable_Q] * 100
        yield [name, f"{count} of {(windows_Q > 1).sum()}", *(f"{value:.2f}" for value in right_Q2.mean(axis=0))]


def report(study: Study) -> str:
    columns = list(study.collections)
    with_mean = [*columns, f"mean but for {columns[0]}"]
    parts = [
        table("collection", ["questions", "with an answer", "windows", "windows per question"], sizes(study)),
        table("has-answer exact match", with_mean, rankings(study, 0)),
        table("has-answer F1", with_mean, rankings(study, 1)),
        table("own paragraph", ["answers changed, of those with several windows", "EM", "F1"], changed(study)),
        table("AUROC of answerability", with_mean, answerability(study)),
        table("best F1, ranking / no answer", with_mean, best_f1(study)),
        table("ECE after a fit", columns, calibrations(study)),
        *(table(f"transferred: {name}", columns, transferred(study, name)) for name in TRANSFERRED),
    ]
    return "\n".join(parts)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a fine-tuned model")
    parser.add_argument("--validation_file", required=True, type=Path, help="SQuAD v2's nested form")
    parser.add_argument("--samples", type=int, default=250, help="questions with more than their own paragraph")
    parser.add_argument("--candidates", type=Path, help="file of what the model found, read or else written")
    return parser.parse_args()


def main() -> None:
    arguments = read_arguments()
    questions = read_questions(arguments.validation_file)
    documents = make_documents(questions, arguments.samples)
    if arguments.candidates and arguments.candidates.is_file():
        found = ranking_windows.load(arguments.candidates)
    else:
        found = ranking_windows.find(questions, documents, arguments.model, WindowConfig(), _progress)
        if arguments.candidates:
            ranking_windows.save(found, arguments.candidates)
    print(report(make_study(questions, documents, found)))


def _progress(done: int, of: int) -> None:
    if done % 100 == 0:
        print(f"{done} of {of} batches", flush=True)


if __name__ == "__main__":
    main()
