"""Scores and answers -> what a person reads on the console: tables and lines."""

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
from rich.table import Table
from rich.text import Text

from qa_accel.terminal import visible

SCORES = {
    "exact": "exact match",
    "f1": "F1",
    "HasAns_exact": "exact match, answerable",
    "HasAns_f1": "F1, answerable",
    "NoAns_exact": "exact match, unanswerable",
    "exact_threshold_0": "exact match at threshold 0",
    "f1_threshold_0": "F1 at threshold 0",
    "best_exact": "exact match at its best threshold",
    "best_f1": "F1 at its best threshold",
    "multi_exact_f1": "several answers, exact: F1",
    "multi_exact_precision": "several answers, exact: precision",
    "multi_exact_recall": "several answers, exact: recall",
    "best_multi_exact_f1": "several answers, exact: F1 at its best least score",
    "multi_partial_f1": "several answers, partial: F1",
    "multi_partial_precision": "several answers, partial: precision",
    "multi_partial_recall": "several answers, partial: recall",
    "aupr": "area under precision and recall (AUPR)",
    "precision_at_80_recall": "precision at 80 % recall",
    "precision_at_90_recall": "precision at 90 % recall",
}

CONFIDENCE = {
    "confidence_ece": "confidence: calibration error (ECE)",
    "confidence_brier": "confidence: Brier score",
    "confidence_auroc": "confidence: correctness (AUROC)",
    "confidence_aurc": "confidence: mean risk (AURC)",
    "coverage_at_80": "answered at 80 % accuracy",
    "coverage_at_90": "answered at 90 % accuracy",
    "coverage_at_95": "answered at 95 % accuracy",
    "answerability_auroc": "answerability (AUROC)",
}
"""As parts of 1, shown in percent."""


def scores_table(scores: Mapping[str, Any]) -> Table:
    """The official figures by name, and the thresholds that they belong to."""
    threshold = scores.get("null_score_diff_threshold")
    where = "" if threshold is None else f" (no answer where null odds > {float(threshold):.3f})"
    language = scores.get("answer_language")
    by = "" if language is None else f", answer language {language}"
    table = Table(title=f"{scores['total']} questions{by}{where}", title_justify="left")
    table.add_column("score")
    table.add_column("%", justify="right")
    table.add_column("questions or threshold", justify="right")
    notes = {
        "HasAns_f1": scores.get("HasAns_total"),
        "NoAns_exact": scores.get("NoAns_total"),
        "best_exact": scores.get("best_exact_thresh"),
        "best_f1": scores.get("best_f1_thresh"),
        "multi_exact_f1": scores.get("min_answer_score"),
        "best_multi_exact_f1": scores.get("best_multi_exact_f1_score"),
    }
    for key, name in SCORES.items():
        if key in scores:
            note = notes.get(key)
            table.add_row(name, f"{scores[key]:.2f}", "" if note is None else f"{note:.3f}".removesuffix(".000"))
    for key, name in CONFIDENCE.items():
        if key in scores:
            table.add_row(name, f"{100 * scores[key]:.2f}", str(scores["confidence_questions"]))
    return table


def sets_table(scores: Mapping[str, Any], names: Sequence[str]) -> Table:
    """The figures of named sets side by side, and their means."""
    shown = [key for key in SCORES if any(f"{name}_{key}" in scores for name in names)]
    table = Table(title="by set", title_justify="left")
    table.add_column("set")
    table.add_column("questions", justify="right")
    for key in shown:
        table.add_column(SCORES[key], justify="right")
    for name in (*names, "mean"):
        cells = [f"{scores[f'{name}_{key}']:.2f}" if f"{name}_{key}" in scores else "" for key in shown]
        table.add_row(name, str(scores.get(f"{name}_total", "")), *cells)
    return table


def calibration_table(columns: Mapping[str, Mapping[str, Any]]) -> Table:
    """Figures of confidences side by side."""
    table = Table(title="confidence", title_justify="left")
    table.add_column("%")
    for name, figures in columns.items():
        table.add_column(f"{name}\n{figures['confidence_questions']} questions", justify="right")
    for key, name in CONFIDENCE.items():
        cells = [f"{100 * figures[key]:.2f}" if key in figures else "" for figures in columns.values()]
        table.add_row(name.removeprefix("confidence: "), *cells)
    return table


def answered_line(scores: Mapping[str, Any], total: int) -> str:
    """How many questions are answered with enough confidence and, where the file has gold answers, how well."""
    answered = scores["answered"]
    share = f"{answered:,} of {total:,} questions ({100 * answered / total:.1f} %)"
    accuracy = (
        f": exact match {scores['answered_exact']:.2f}, F1 {scores['answered_f1']:.2f}"
        if "answered_f1" in scores
        else ""
    )
    return f"answered with a confidence of at least {scores['min_confidence']:g}: {share}{accuracy}"


def samples_table(questions: datasets.Dataset, predictions: Mapping[str, str], count: int = 8) -> Table:
    """Questions from all over the split, with gold and predicted answers."""
    table = Table(title="sample answers", title_justify="left", show_lines=True)
    for name in ("question", "gold", "predicted"):
        table.add_column(name, overflow="fold")
    step = max(1, len(questions) // count)
    for row in questions.select(range(step // 2, len(questions), step)).to_list()[:count]:
        gold = list(dict.fromkeys((row.get("answers") or {"text": []})["text"])) or ["(no answer)"]
        predicted = predictions[row["id"]] or "(no answer)"
        style = "green" if predicted in gold else "red"
        table.add_row(*map(_cell, (row["question"].strip(), " | ".join(gold[:3]))), _cell(predicted, style))
    return table


def _cell(text: str, style: str = "") -> Text:
    return Text(visible(text), style)
