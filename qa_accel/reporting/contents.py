"""A judged run -> the sections of its report, in the order in which people ask: what ran, how good it is, what is wrong."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from qa_accel import shell_words
from qa_accel.answer_language import is_english, spelled_language
from qa_accel.data.audit import SplitReport
from qa_accel.data.audit_table import ALL_LISTED, counts, names_of_rows, remarks
from qa_accel.evaluation.comparison import Comparison
from qa_accel.evaluation.error_analysis import Slice, verdict
from qa_accel.evaluation.error_kinds import KINDS
from qa_accel.evaluation.question_features import FAMILIES
from qa_accel.evaluation.significance import shown_p
from qa_accel.reporting import comparison_section, curves, explorer, scores
from qa_accel.reporting.blocks import Block, Cell, Code, Report, Section, Table, Text
from qa_accel.reporting.comparison_sides import Side
from qa_accel.reporting.judged_run import JudgedRun
from qa_accel.reporting.local_places import PER_RUN, last_part, public, spelled, without_place
from qa_accel.terminal import visible

CONFIDENT_AND_WRONG = 15
MOST_IN_CELL = 160
"""Characters."""
SLICE_COLUMNS = ("slice", "questions", "exact", "F1", "exact, rest", "% of errors", "p", "")
"""Of a table of slices; the kinds of errors follow."""


def report(run: JudgedRun, defaults: Mapping[str, Any]) -> Report:
    """The report of one run. `defaults`: of the settings of the command that wrote it."""
    named = f"{run.name}: {model_of(run)}" if run.files.trained else model_of(run)
    return Report(
        title=f"{named} evaluated on {run.data.source}",
        subtitle=scores.headline(run),
        sections=sections(run, defaults),
        explorer=explorer.explorer(run),
    )


def comparison_report(
    comparison: Comparison, one: Side, other: Side, notes: Sequence[str], defaults: Mapping[str, Any]
) -> Report:
    """The comparison, then the report of the one side's first run; the explorer has the answers of both."""
    f1 = comparison.differences["f1"]
    return Report(
        title=f"{one.name} against {other.name}",
        subtitle=f"F1 {f1.one:.2f} against {f1.other:.2f} on {comparison.questions:,} questions of {one.first.data.source}"
        + scores.by_language(one.first),
        sections=[comparison_section.section(comparison, one, other, notes), *sections(one.first, defaults)],
        explorer=explorer.explorer(one.first, other.first, (one.first_name, other.first_name)),
    )


def sections(run: JudgedRun, defaults: Mapping[str, Any]) -> list[Section]:
    found = [what_ran(run, defaults), scores.section(run)]
    if run.files.metrics:
        found.append(Section("training", "Training", curves.training(run.files.metrics)))
    if run.version_2_with_negative and run.outcomes.null_odds_Q is not None:
        found.append(Section("threshold", "The no-answer threshold", curves.threshold(run)))
    if run.confidence_Q is not None:
        found.append(Section("confidence", "Confidence", curves.confidence(run)))
    audits = audits_of(run)
    if audits:
        found.append(data(audits))
    return [*found, errors(run)]


def model_of(run: JudgedRun) -> str:
    name = run.files.settings.get("model_name_or_path")
    return last_part(str(name)) if name else run.name


def what_ran(run: JudgedRun, defaults: Mapping[str, Any]) -> Section:
    settings, results, environment = run.files.settings, run.files.results, run.files.environment or {}
    rows: list[Sequence[Cell]] = [
        ("run", run.name),
        ("model", f"{model_of(run)}, fine-tuned by this run" if run.files.trained else model_of(run)),
        ("questions", f"{len(run.data.ids):,} of {run.data.source}"),
    ]
    if not is_english(run.data.answer_language):
        rows.append(("answer language", spelled_language(run.data.answer_language)))
    if settings.get("keep_layers"):
        rows.append(("layers kept, counted from 0", spelled("keep_layers", settings["keep_layers"])))
    if settings.get("teacher"):
        weight, temperature = settings.get("distill_weight"), settings.get("distill_temperature")
        rows.append(
            ("teacher", f"{spelled('teacher', settings['teacher'])} (weight {weight}, temperature {temperature})")
        )
    if run.data.reach is not None:
        rows.append(("windows", f"{len(run.data.reach):,}"))
    rows += [
        (name, str(environment[key]))
        for key, name in (
            ("runs", "runs"),
            ("gpu", "GPU"),
            ("cpu", "CPU"),
            ("cores", "cores"),
            ("memory_gib", "memory, GiB"),
        )
        if environment.get(key) is not None
    ]
    seconds = results.get("seconds", environment.get("seconds"))
    if _is_number(seconds):
        since = environment.get("first_step")
        of = f", from step {since:,} on" if isinstance(since, int) and since else ""
        rows.append(("duration", f"{timedelta(seconds=round(seconds))} ({seconds:,.0f} s{of})"))
    if _is_number(results.get("steps")):
        early = ", stopped early" if results.get("stopped_early") else ""
        rows.append(("training", f"{results['steps']:,} steps, best at step {results.get('best_step')}{early}"))
    if environment.get("written"):
        rows.append(("started" if run.files.trained else "finished", str(environment["written"])))
    if isinstance(environment.get("versions"), dict):
        rows.append(("versions", ", ".join(f"{name} {version}" for name, version in environment["versions"].items())))
    blocks: list[Block] = [scores.tiles(run)]
    if not run.files.ended:
        blocks.append(Text("The run has not ended: these are the answers of its best model so far.", is_warning=True))
    blocks += [Text(warning, is_warning=True) for warning in run.warnings]
    blocks.append(Table("Run", ("", ""), [(name, visible(value)) for name, value in rows]))
    blocks += _stages(results)
    if settings:
        blocks.append(_settings(settings, defaults))
        blocks.append(Text("The same run again, with names of files and models in place of where they are here:"))
        blocks.append(Code(repeat_command(run, defaults)))
    else:
        blocks.append(Text("A file of predictions: what made them is not known."))
    blocks += [Text(note) for note in run.notes]
    return Section("run", "What ran", blocks)


def _is_number(value: Any) -> bool:
    """Of seconds and steps; whoever edits a file by hand may write anything."""
    return type(value) in (int, float) and 0 <= value < 1e10


def _stages(results: Mapping[str, Any]) -> list[Block]:
    stages = results.get("seconds_of")
    if not isinstance(stages, dict) or not all(map(_is_number, stages.values())) or not sum(stages.values()):
        return []
    total = sum(stages.values())
    longest = sorted(stages.items(), key=lambda entry: -entry[1])
    rows = [(name, f"{seconds:,.1f}", f"{100 * seconds / total:.1f}") for name, seconds in longest]
    return [Table("Where the time went", ("stage", "seconds", "%"), rows, open=False)]


def _settings(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> Table:
    rows = [(name, visible(spelled(name, value))) for name, value in differing(settings, defaults).items()]
    return Table("Settings that differ from the defaults", ("setting", "value"), rows, open=len(rows) <= 12)


def differing(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Those that were given: without a default, or other than it. Of files and folders their names, not where they are."""
    return {
        name: without_place(name, value)
        for name, value in settings.items()
        if name not in PER_RUN and value is not None and (name not in defaults or defaults[name] != value)
    }


def repeat_command(run: JudgedRun, defaults: Mapping[str, Any]) -> str:
    """The command that gives this run again, in another folder, with names of files as `differing` shows them."""
    launch = (run.files.environment or {}).get("launch", "python")
    script = "scripts/train.py" if run.files.trained else "scripts/predict.py"
    settings = run.files.settings
    own = public(settings, differing(settings, defaults).keys())
    return " ".join([str(launch), script, *shell_words.flags(own), "--output_dir runs/again"])


def audits_of(run: JudgedRun) -> dict[str, SplitReport]:
    """Of each split; of answers, and of a run whose data_report.json cannot be read, of the answered split alone."""
    try:
        stored = {name: SplitReport.from_dict(each) for name, each in (run.files.data_report or {}).items()}
    except (KeyError, TypeError, AttributeError, ValueError):  # written by another version
        stored = {}
    return stored or ({} if run.data.audit is None else {run.data.split: run.data.audit})


def data(audits: Mapping[str, SplitReport]) -> Section:
    columns = [counts(audit) for audit in audits.values()]
    rows = [(name, *(column.get(name, "-") for column in columns)) for name in names_of_rows(columns)]
    # a folder of answers has no such file
    lines = [(split, line.removesuffix(ALL_LISTED)) for split, audit in audits.items() for line in remarks(audit)]
    blocks: list[Block] = [Table("What is in the data", ("", *audits), rows)]
    if lines:
        blocks.append(Table("Remarks of the audit, some of each kind", ("", ""), lines))
    return Section("data", "Data", blocks)


def errors(run: JudgedRun) -> Section:
    analysis = run.analysis
    wrong = sum(analysis.kinds.values()) - analysis.kinds["right"]
    at = "as predicted" if run.threshold is None else f"at threshold {run.threshold:.4g}"
    blocks: list[Block] = [Text(f"{wrong:,} of {len(analysis.questions):,} answers are wrong ({at}).")]
    if wrong:
        blocks += [confident_and_wrong(run), curves.kinds(run), kinds_table(run), *slice_tables(run)]
    return Section("errors", "Errors", blocks)


def confident_and_wrong(run: JudgedRun) -> Table:
    """Each row opens its question."""
    row_of = {key: row for row, key in enumerate(run.data.ids)}
    rows, filters = [], []
    for each in run.analysis.confident_and_wrong()[:CONFIDENT_AND_WRONG]:
        row = row_of[each.id]
        golds = list(dict.fromkeys(run.data.gold_texts[row])) or ["(no answer)"]
        confidence = "" if each.confidence is None else f"{each.confidence:.2f}"
        cells = (
            run.data.questions[row].strip() or each.id,
            " | ".join(golds[:3]),
            run.predicted[row].text or "(no answer)",
        )
        rows.append(
            (*(explorer.shortened(visible(cell), MOST_IN_CELL) for cell in cells), KINDS[each.kind], confidence)
        )
        filters.append({"id": each.id})
    return Table("Confident and wrong", ("question", "gold", "answered", "kind", "confidence"), rows, filters)


def kinds_table(run: JudgedRun) -> Table:
    """Every question falls into one kind."""
    kinds, total = run.analysis.kinds, len(run.analysis.questions)
    wrong = max(total - kinds["right"], 1)
    rows = [
        (
            name,
            kinds[kind],
            f"{100 * kinds[kind] / total:.1f}",
            "" if kind == "right" else f"{100 * kinds[kind] / wrong:.1f}",
        )
        for kind, name in KINDS.items()
    ]
    return Table(
        "Kinds of answers",
        ("kind", "questions", "% of all", "% of errors"),
        rows,
        filters=[{"kind": kind} for kind in KINDS],
    )


def slice_tables(run: JudgedRun) -> list[Block]:
    """What is worse or better than chance; then every family, folded."""
    analysis = run.analysis
    tested = sum(each.p_value is not None for each in analysis.slices)
    explained = (
        f"{tested} slices are tested against the rest of their family. p is the larger one of Fisher's exact test, on "
        "counts reduced for questions of one context, and a t-test with contexts as units, corrected for the number of slices by Holm's method: if nothing differed, one slice or more would "
        "come below 0.05 in less than one report of 20."
    )
    blocks: list[Block] = []
    for title, found in (("Worse beyond chance", analysis.worse), ("Better beyond chance", analysis.better)):
        if found:
            blocks.append(slice_table(title, found))
        else:
            blocks.append(Text(f"{title}: no slice."))
    blocks.insert(0, Text(explained))
    for family, name in FAMILIES.items():
        of_family = [each for each in analysis.slices if each.family == family]
        if of_family:
            blocks.append(slice_table(f"By {name}", of_family, of_one_family=True))
    return blocks


def slice_table(title: str, slices: Sequence[Slice], *, of_one_family: bool = False) -> Table:
    """Scores of each slice and, in percent of its questions, the kinds of wrong answers. The title names the one family."""
    kinds = [kind for kind in KINDS if kind != "right" and any(kind in each.kinds for each in slices)]
    rows = [
        (
            visible(each.value) if of_one_family else f"{FAMILIES[each.family]}: {visible(each.value)}",
            each.questions,
            f"{each.exact:.1f}",
            f"{each.f1:.1f}",
            f"{each.rest_exact:.1f}",
            f"{100 * each.share_of_errors:.1f}",
            "" if each.p_value is None else shown_p(each.p_value),
            verdict(each),
            *(f"{100 * each.kinds.get(kind, 0) / each.questions:.1f}" for kind in kinds),
        )
        for each in slices
    ]
    columns = (*SLICE_COLUMNS, *(f"{KINDS[kind]}, %" for kind in kinds))
    filters = [{"slice": f"{each.family}={each.value}"} for each in slices]
    return Table(title, columns, rows, filters=filters, open=not of_one_family, detail_columns=len(kinds))
