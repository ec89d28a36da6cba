"""A run's files and its questions -> what a report says of it: outcomes, threshold, confidences, analysed errors."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from qa_accel.answer_language import language_of
from qa_accel.evaluation import calibration
from qa_accel.evaluation.calibration import GoldAnswers
from qa_accel.evaluation.error_analysis import AnalysedQuestion, ErrorAnalysis, analyse
from qa_accel.evaluation.error_kinds import Place, kind_of
from qa_accel.evaluation.outcomes import EXACT, F1, Outcomes
from qa_accel.evaluation.question_features import AskedQuestion, features
from qa_accel.inference.answer_policy import THRESHOLD_KEY
from qa_accel.inference.postprocess import Answers
from qa_accel.messages import quoted
from qa_accel.reporting.run_data import RunData
from qa_accel.reporting.run_files import RunFiles


@dataclass(frozen=True, eq=False)
class JudgedRun:
    files: RunFiles
    data: RunData
    outcomes: Outcomes
    version_2_with_negative: bool
    """Whether questions may have no answer."""
    threshold: float | None
    """Null odds above which the answer is "", for all that is said of single questions; None: the answers are as predicted."""
    threshold_source: str
    confidence_Q: np.ndarray | None
    """Of the answer at `threshold`, 0 to 1; None without n-best lists."""
    confidence_source: str
    judged_Q: np.ndarray
    """bool: the questions that calibration has not seen."""
    predicted: list[Place]
    analysis: ErrorAnalysis
    warnings: list[str]
    """What makes the numbers doubtful."""
    notes: list[str]
    """What the report cannot show, and why."""

    @property
    def name(self) -> str:
        return self.files.name

    @cached_property
    def exact_Q(self) -> np.ndarray:
        return self.outcomes.scores_at(self.threshold)[:, EXACT]

    @cached_property
    def f1_Q(self) -> np.ndarray:
        return self.outcomes.scores_at(self.threshold)[:, F1]


def judge(files: RunFiles, data: RunData) -> JudgedRun:
    """Raises ValueError where the answers are of other questions."""
    warnings = _check_ids(files, data)
    negative = _has_negative(files, data)
    threshold, source = _threshold(files, negative)
    best = _best_entries(files, data)
    outcomes = Outcomes.of(
        {key: entry.text for key, entry in best.items()},
        files.null_odds,
        data.golds(),
        data.contexts_by_id(),
        data.answer_language,
    )
    answered = outcomes.answered_Q(threshold).tolist()
    predicted = [best[key] if is_answered else Place("") for key, is_answered in zip(data.ids, answered)]
    warnings += _other_answers(files, negative, outcomes) + _other_scores(files, negative, outcomes)
    notes = _misplaced(data, best)
    if data.no_windows:
        notes.append(f"Windows are not known: {data.no_windows}.")
    confidence_Q, confidence_source, judged_Q = _confidences(files, data, best, threshold, negative)
    score_Q2 = outcomes.scores_at(threshold)
    analysed = []
    for row, key in enumerate(data.ids):
        texts, starts = data.gold_texts[row], data.gold_starts[row]
        exact, f1 = score_Q2[row].tolist()
        golds = [Place(text, start, start + len(text)) for text, start in zip(texts, starts)]
        reachable = exact == 1 or _is_reachable(data, row)
        asked = AskedQuestion(
            data.questions[row],
            data.contexts[row],
            texts,
            starts,
            data.titles[row],
            None if data.reach is None else data.reach.count(row),
            data.sets[row],
        )
        analysed.append(
            AnalysedQuestion(
                id=key,
                paragraph=int(outcomes.paragraph_Q[row]),
                kind=kind_of(
                    predicted[row],
                    golds,
                    exact=exact,
                    f1=f1,
                    reachable=reachable,
                    language=language_of(data.answer_language, key),
                ),
                features=features(asked),
                exact=exact,
                f1=f1,
                confidence=None if confidence_Q is None else float(confidence_Q[row]),
            )
        )
    return JudgedRun(
        files=files,
        data=data,
        outcomes=outcomes,
        version_2_with_negative=negative,
        threshold=threshold,
        threshold_source=source,
        confidence_Q=confidence_Q,
        confidence_source=confidence_source,
        judged_Q=judged_Q,
        predicted=predicted,
        analysis=analyse(analysed),
        warnings=warnings,
        notes=notes,
    )


def _is_reachable(data: RunData, row: int) -> bool:
    """Whether a prediction could be a gold answer. One that is not at its place in the context does not count: the audit names it."""
    context = data.contexts[row]
    there = [
        (text, start)
        for text, start in zip(data.gold_texts[row], data.gold_starts[row])
        if text.strip() and start >= 0 and context.startswith(text, start)
    ]
    if data.reach is None or not there:
        return True
    texts, starts = zip(*there)
    return data.reach.reaches(row, texts, starts, data.max_answer_length)


def _check_ids(files: RunFiles, data: RunData) -> list[str]:
    missing = [key for key in data.ids if key not in files.predictions]
    if missing:
        raise ValueError(
            f"{files.path}: {len(missing)} of {len(data.ids)} questions of {data.source} have no prediction, the first is "
            f"{quoted(missing[0])}; are the predictions of other data? Give theirs with --validation_file"
        )
    for name, found in (("nbest_predictions.json", files.nbest), ("null_odds.json", files.null_odds)):
        if found is not None and (lacking := next((key for key in data.ids if key not in found), None)) is not None:
            raise ValueError(
                f"{files.path}: {name} has no {quoted(lacking)}, predictions.json has; they are of different runs"
            )
    more = 0 if data.is_part else len(files.predictions) - len(data.ids)
    return [f"{more:,} predictions do not count: {data.source} does not have their questions."] if more else []


def _has_negative(files: RunFiles, data: RunData) -> bool:
    stated = files.settings.get("version_2_with_negative")
    if stated is not None:
        return bool(stated)
    return THRESHOLD_KEY in files.results or not all(data.gold_texts)


def _threshold(files: RunFiles, negative: bool) -> tuple[float | None, str]:
    if files.null_odds is None:
        return None, "as predicted"
    if not negative:
        return None, "every question has an answer"
    if files.trained and files.policy.null_score_diff_threshold is not None:
        return files.policy.null_score_diff_threshold, "tuned by the run, stored in config.json"
    stated = files.results.get(THRESHOLD_KEY, files.settings.get(THRESHOLD_KEY))
    return _used_threshold(files, negative), "the default" if stated is None else "used by the run"


def _best_entries(files: RunFiles, data: RunData) -> dict[str, Place]:
    """The best span of each question whatever the null odds; without n-best lists, the prediction."""
    found = {}
    for key, context in zip(data.ids, data.contexts):
        entries = [] if files.nbest is None else [entry for entry in files.nbest[key] if entry["text"]]
        if files.null_odds is None:  # then predictions.json has the last word
            entries = [entry for entry in entries if entry["text"] == files.predictions[key]]
        entry = entries[0] if entries else None
        if entry is None:
            known = files.nbest is not None and files.null_odds is not None
            found[key] = Place("") if known else Place.found(files.predictions[key], context)
        elif context[entry["start"] : entry["end"]] == entry["text"]:
            found[key] = Place(entry["text"], entry["start"], entry["end"])
        else:
            found[key] = Place(entry["text"])
    return found


def _misplaced(data: RunData, best: Mapping[str, Place]) -> list[str]:
    unknown = sum(bool(place.text) and place.start is None for place in best.values())
    if not unknown:
        return []
    return [f"{unknown:,} answers are not marked: the files do not say where in the context they are."]


def _used_threshold(files: RunFiles, negative: bool) -> float | None:
    """The one under which predictions.json and all_results.json were made; None where every question has an answer."""
    used = files.results.get(THRESHOLD_KEY, files.settings.get(THRESHOLD_KEY))
    return float(0.0 if used is None else used) if negative else None


def _other_answers(files: RunFiles, negative: bool, outcomes: Outcomes) -> list[str]:
    """predictions.json is what the n-best lists give at the run's own threshold, unless files of two runs were mixed."""
    least = files.settings.get("min_confidence")
    if files.nbest is None or files.null_odds is None or (not files.results and least is None):
        return []
    expected = outcomes.predictions_at(_used_threshold(files, negative))
    differing = sum(files.predictions[key] != text for key, text in zip(outcomes.ids, expected))
    if not differing:
        return []
    reason = (
        f"--min_confidence {least} withheld them, which this report does not"
        if least is not None
        else "the files may be of different runs"
    )
    return [f"{differing:,} predictions are not what the n-best lists give at the run's threshold: {reason}."]


def _other_scores(files: RunFiles, negative: bool, outcomes: Outcomes) -> list[str]:
    """all_results.json has what is computed here, unless data or normalisation are not what they were."""
    stated = files.results.get("f1")
    if not isinstance(stated, int | float) or files.results.get("total") != len(outcomes.ids):
        return []
    computed = 100 * float(outcomes.scores_at(_used_threshold(files, negative))[:, F1].mean())
    if abs(computed - stated) < 0.005:
        return []
    return [
        f"all_results.json has F1 {stated:.2f}; the answers score {computed:.2f} here: data or normalisation have changed."
    ]


def _confidences(
    files: RunFiles, data: RunData, best: Mapping[str, Place], threshold: float | None, negative: bool
) -> tuple[np.ndarray | None, str, np.ndarray]:
    everything_Q = np.ones(len(data.ids), bool)
    if files.nbest is None or files.null_odds is None:
        return None, "", everything_Q
    if files.confidences is not None and all(key in files.confidences for key in data.ids):
        source = "calibrated; questions that the calibration was fitted to may be among these"
        return np.array([files.confidences[key] for key in data.ids]), source, everything_Q
    if negative and not all(any(not entry["text"] for entry in files.nbest[key]) for key in data.ids):
        return None, "", everything_Q  # lists of another program, without "no answer"
    if not all(files.nbest[key] for key in data.ids):
        return None, "", everything_Q  # such a program may list nothing
    fitted = files.policy.calibration(version_2_with_negative=negative) if files.trained else None
    nbest: Any = files.nbest
    texts = {key: place.text for key, place in best.items()}
    answers = Answers(dict(files.predictions), texts, dict(files.null_odds), nbest)
    golds = GoldAnswers(data.golds(), data.contexts_by_id(), data.answer_language)
    confidence_Q, _ = calibration.judge(
        answers,
        golds.texts,
        fitted,
        0.0 if threshold is None else threshold,
        version_2_with_negative=negative,
        language=golds.language,
    )
    if fitted is None:
        return confidence_Q, "softmax over the n-best list, not calibrated", everything_Q
    seen = golds.halves()[0].texts.keys()
    unseen_Q = np.array([key not in seen for key in data.ids])
    if not unseen_Q.any():
        return confidence_Q, "calibrated on these very questions", everything_Q
    return confidence_Q, "calibrated on the other half of the questions", unseen_Q
