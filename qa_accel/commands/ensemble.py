"""Join the answers of several models to the same questions into those of an ensemble, and say what that gains."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from qa_accel import files
from qa_accel.commands.settings.ensemble import EnsembleConfig
from qa_accel.data.named_sets import SetRows
from qa_accel.data.set_languages import languages_of
from qa_accel.data.settings import WindowConfig
from qa_accel.distributed.run_folder import open_answers_alone
from qa_accel.evaluation import scoring
from qa_accel.evaluation.calibration import GoldAnswers
from qa_accel.evaluation.comparison import Difference
from qa_accel.evaluation.cross_judged import gains, judge_across
from qa_accel.hub import is_hub_id
from qa_accel.inference import ensemble, ensemble_file
from qa_accel.inference.answer_files import ANSWER_FILES, write_answers
from qa_accel.inference.answer_lists import Answers
from qa_accel.inference.answer_policy import CONFIG_KEY, THRESHOLD_KEY, AnswerPolicy
from qa_accel.inference.ensemble_file import EnsembleMember
from qa_accel.inference.postprocess import shared_contexts
from qa_accel.inference.reader_models import mean_threshold
from qa_accel.inference.settings import SpanConfig
from qa_accel.reporting.console_tables import console_table
from qa_accel.reporting.ensemble_tables import gains_table, scores_table
from qa_accel.reporting.listed_answers import has_negative, listed_answers
from qa_accel.reporting.requirements import check_installed
from qa_accel.reporting.run_data import GivenData, load_rows, run_language, stored_settings
from qa_accel.reporting.run_files import RunFiles, policy_of_model, read_run
from qa_accel.reporting.run_names import run_names
from qa_accel.run_layout import BEST, CONFIDENCES, ENSEMBLE, FINISHED, SETTINGS, SEVERAL
from qa_accel.terminal import make_console, visible

Config = EnsembleConfig


def run(settings: EnsembleConfig) -> None:
    """Raises ValueError for runs that cannot be joined: fewer than two, one twice, without n-best lists, of other questions."""
    runs = _read_runs(settings)
    _check_languages(runs)
    names = run_names([one.path for one in runs])
    rows, data, split = load_rows(runs[0], GivenData(settings.validation_file))
    contexts = dict(zip(rows["id"][:], shared_contexts(rows), strict=True))
    negative = _negative(runs)
    answers = [listed_answers(one, contexts) for one in runs]
    has_gold = "answers" in rows.column_names
    if has_gold:
        check_installed(html=False)
    outputs = (*ANSWER_FILES, CONFIDENCES, SEVERAL, FINISHED, SETTINGS, ENSEMBLE)
    folder = open_answers_alone(settings.output_dir, outputs)
    console = make_console(soft_wrap=True)
    joined = ensemble.join(answers, version_2_with_negative=negative)
    policy = AnswerPolicy(mean_threshold([_policy(one) for one in runs]) if negative else None)
    scores, judged = {}, {}
    if has_gold:
        texts = (each["text"] for each in rows["answers"][:])
        golds = GoldAnswers(dict(zip(contexts, texts, strict=True)), contexts, languages_of(data.answer_language, rows))
        policy, figures = _tuned(joined, golds, version_2_with_negative=negative)
    threshold = policy.null_score_diff_threshold or 0.0
    calibration = policy.calibration(version_2_with_negative=negative)
    joined = ensemble.join(answers, threshold=threshold, calibration=calibration, version_2_with_negative=negative)
    if has_gold:
        sets = SetRows.of(rows)
        set_of = None if sets is None else sets.by_id(list(contexts))
        scores = scoring.scores_against(
            joined, golds.texts, threshold, version_2_with_negative=negative, language=golds.language, set_of=set_of
        )
        scores |= figures
        if "not_calibrated" in figures:
            console.print(f"the ensemble is not calibrated: {figures['not_calibrated']}")
        judged = _judged(console, names, answers, joined, golds, version_2_with_negative=negative)
    else:
        console.print(
            "the questions have no gold answers: the answers are joined, and nothing is tuned or judged"
            + (
                f"; no answer where null odds > {threshold:.4g}, the mean of the members' thresholds"
                if negative
                else ""
            )
        )
    members = [_member(one, len(runs)) for one in runs]
    unknown = [name for name, member in zip(names, members) if member is None]
    if unknown:
        console.print(
            visible(
                f"Reader cannot load this ensemble: the folder of {', '.join(unknown)} does not say which model answered"
            )
        )
    if any(one.several is not None for one in runs):
        console.print(
            "several answers per question (answers.json) are not joined: the ensemble has one answer per question"
        )
    write_answers(joined, folder)
    content = {
        "members": [
            {"name": name} | ({} if member is None else ensemble_file.member_entry(member, folder))
            for name, member in zip(names, members)
        ],
        CONFIG_KEY: policy.as_dict(),
        "version_2_with_negative": negative,
        **judged,
    }
    files.write_json(folder / ENSEMBLE, content)
    if scores:
        files.write_json(folder / FINISHED, scores)
    else:
        (folder / FINISHED).unlink(missing_ok=True)
    files.write_text(folder / SETTINGS, _settings(settings, data, split, members, negative))
    console.print(f"answers: {visible(folder / 'predictions.json')}")


def _read_runs(settings: EnsembleConfig) -> list[RunFiles]:
    paths = settings.runs
    if not 2 <= len(paths) <= ensemble_file.MOST:
        raise ValueError(
            f"{len(paths)} run{'' if len(paths) == 1 else 's'} given; an ensemble has 2 to {ensemble_file.MOST}: give the output_dir of each"
        )
    resolved = [path.resolve() for path in paths]
    if twice := next((path for path, place in zip(paths, resolved) if resolved.count(place) > 1), None):
        raise ValueError(f"{twice} is given twice; an ensemble counts each run once")
    if Path(settings.output_dir).resolve() in resolved:
        raise ValueError(
            f"--output_dir {settings.output_dir} is a member; its answers would be replaced: take another folder"
        )
    for path in paths:
        ensemble_file.refuse_nested(str(path), "an ensemble cannot be a member")
    return [read_run(path) for path in paths]


def _negative(runs: Sequence[RunFiles]) -> bool:
    """Whether questions may have no answer. Raises ValueError where the runs do not agree."""
    ranked = [has_negative(one) for one in runs]
    if any(ranked) and not all(ranked):
        here, there = runs[ranked.index(True)].path, runs[ranked.index(False)].path
        raise ValueError(
            f'{here} ranks "no answer" for every question, {there} does not: answer with both under the same '
            "--version_2_with_negative"
        )
    return all(ranked)


def _check_languages(runs: Sequence[RunFiles]) -> None:
    """Raises ValueError where the members' answers were compared by the rules of several languages."""
    first, *others = [(one.path, sorted(run_language(one))) for one in runs]
    if other := next((each for each in others if each[1] != first[1]), None):
        raise ValueError(
            f"{first[0]} was scored with --answer_language {' '.join(first[1])}, {other[0]} with {' '.join(other[1])}: answer with "
            "all members under one language"
        )


def _policy(one: RunFiles) -> AnswerPolicy:
    model = _model(one)
    return one.policy if one.trained or model is None else policy_of_model(Path(model))


def _model(one: RunFiles) -> str | None:
    """The folder or the name of the model that gave a run's answers; None where that is not known."""
    if one.trained:
        return str(one.path if one.ended else one.path / BEST)
    name = one.settings.get("model_name_or_path")
    return name if isinstance(name, str) and "\0" not in name and (Path(name).is_dir() or is_hub_id(name)) else None


def _member(one: RunFiles, count: int) -> EnsembleMember | None:
    model = _model(one)
    if model is None:
        return None
    windows, spans = WindowConfig(**stored_settings(WindowConfig, one)), SpanConfig(**stored_settings(SpanConfig, one))
    return EnsembleMember(model, windows, spans, 1 / count)


def _tuned(
    joined: Answers, golds: GoldAnswers, *, version_2_with_negative: bool
) -> tuple[AnswerPolicy, dict[str, Any]]:
    """What is stored, as a training run stores it: the threshold of the best F1 on all questions, and a calibration of the first half
    with the figures of the other."""
    at_zero = scoring.scores_against(
        joined, golds.texts, 0.0, version_2_with_negative=version_2_with_negative, language=golds.language
    )
    return scoring.policy_of(joined, at_zero, golds, version_2_with_negative=version_2_with_negative)


def _judged(
    console: Console,
    names: Sequence[str],
    answers: Sequence[Answers],
    joined: Answers,
    golds: GoldAnswers,
    *,
    version_2_with_negative: bool,
) -> dict[str, Any]:
    """Print the tables; what ensemble.json says of them."""
    judged = [judge_across(each, golds, version_2_with_negative=version_2_with_negative) for each in answers]
    whole = judge_across(joined, golds, version_2_with_negative=version_2_with_negative)
    rows = {name: each.row() for name, each in zip(names, judged)}
    best = max(sorted(names), key=lambda name: (rows[name]["f1"], rows[name]["exact"]))
    found = {
        "the members' mean": gains(whole, judged),
        f"the best member, {best}": gains(whole, [judged[list(names).index(best)]]),
    }
    mean = _mean(list(rows.values()))
    own = whole.row()
    console.print(console_table(scores_table(rows, mean, own, len(golds.texts))))
    console.print(console_table(gains_table(own, found)))
    return {
        "judged": "each half of the contexts with threshold and calibration of the other half",
        "scores": {"members": rows, "mean": mean, "ensemble": own},
        "gain_over_mean": _as_dict(found["the members' mean"]),
        "gain_over_best": {"member": best} | _as_dict(found[f"the best member, {best}"]),
    }


def _mean(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of the scores that all have."""
    names = [name for name, value in rows[0].items() if isinstance(value, float) and all(name in row for row in rows)]
    return {name: sum(sorted(row[name] for row in rows)) / len(rows) for name in names}


def _as_dict(found: Mapping[str, Difference]) -> dict[str, Any]:
    return {
        name: {"gain": each.difference, "interval": None if each.low is None else [each.low, each.high]}
        for name, each in found.items()
    }


def _settings(
    settings: EnsembleConfig, data: Any, split: str, members: Sequence[EnsembleMember | None], negative: bool
) -> str:
    """config.yaml: where the questions are, so that scripts/report.py finds them, and what the members have in common."""
    spans = [member.spans for member in members if member is not None and member.spans is not None]
    stored = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(data).items()}
    stored = {name: value for name, value in stored.items() if "train" not in name}
    content = {"runs": [str(path) for path in settings.runs], "output_dir": settings.output_dir, "split": split}
    for name in ("n_best_size", "max_answer_length"):
        content[name] = max((getattr(each, name) for each in spans), default=getattr(SpanConfig, name))
    content |= stored | {"answers": "any", "version_2_with_negative": negative, THRESHOLD_KEY: None}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
