"""Write report.html of a run, or of two runs that are compared: one file to open offline or to mail."""

from pathlib import Path
from typing import Any

from rich.console import Console

from qa_accel import config, files, hub, run_layout
from qa_accel.commands.settings.report import ReportConfig
from qa_accel.experiments.sweep_report import write_sweep_report
from qa_accel.reporting import contents
from qa_accel.reporting.blocks import Report
from qa_accel.reporting.common_questions import common_data
from qa_accel.reporting.comparison_section import as_dict, compare_sides
from qa_accel.reporting.comparison_sides import Side
from qa_accel.reporting.console_tables import print_section
from qa_accel.reporting.judged_run import judge
from qa_accel.reporting.requirements import check_installed
from qa_accel.reporting.run_data import GivenData, RunData, load_data
from qa_accel.reporting.run_files import RunFiles, read_run
from qa_accel.reporting.run_names import numbered, run_names
from qa_accel.reporting.write import write_analysis, write_page, write_report
from qa_accel.terminal import make_console, visible

Config = ReportConfig


def run(settings: ReportConfig) -> None:
    """Raises ValueError for what is no run, for runs of different questions, and without the packages of the extra `report`."""
    if len(settings.runs) == 1 and (settings.runs[0] / run_layout.SWEEP_PLAN).is_file():
        _report_sweep(settings)
        return
    one, other = _sides(settings)
    folder = _output_folder(settings, one[0])
    if settings.hub.push_to_hub:
        if other or settings.console or len(one) > 1 or folder != one[0]:
            raise ValueError(
                "--push_to_hub uploads a training run with its report: give one run, and neither --console nor --output_dir"
            )
        _push(settings, one[0])
        return
    hub.check(settings.hub, one[0])
    check_installed(html=not settings.console)
    console = make_console(soft_wrap=True)
    if not other:
        _report(settings, one[0], folder, console)
        return
    found = [(run_files, load_data(run_files, _given(settings))) for run_files in map(read_run, [*one, *other])]
    here, there, notes = _judged_sides(found, len(one))
    comparison = compare_sides(here, there)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(folder / run_layout.COMPARISON, as_dict(comparison, here, there, notes))
    report = contents.comparison_report(comparison, here, there, notes, defaults_of(here.first.files))
    if settings.console:
        print_section(console, report.sections[0])
    else:
        assert folder, "only --console writes nothing"
        write_page(folder / run_layout.COMPARISON_PAGE, report)
        _print(console, report, folder / run_layout.COMPARISON_PAGE)


def _report_sweep(settings: ReportConfig) -> None:
    given = [
        name
        for name in ("against", "validation_file", "answer_language", "output_dir", "console")
        if getattr(settings, name)
    ]
    if given or settings.hub.push_to_hub:
        raise ValueError(
            f"{settings.runs[0]} is a sweep, whose report is written into its folder and takes no flags, got "
            f"--{(given or ['push_to_hub'])[0]}; give one of its trials for a report of answers"
        )
    check_installed(html=True)
    write_sweep_report(settings.runs[0])


def _report(settings: ReportConfig, path: Path, folder: Path | None, console: Console) -> None:
    run_files = read_run(path)
    judged = judge(run_files, load_data(run_files, _given(settings)))
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    if settings.console:
        if folder:
            write_analysis(folder, judged)
        print_section(console, contents.errors(judged))
    else:
        assert folder, "only --console writes nothing"
        _print(console, write_report(folder, judged, defaults_of(run_files)), folder / run_layout.REPORT)


def _push(settings: ReportConfig, folder: Path) -> None:
    """Upload a finished run; its report, if it has one, is written again where that can be done: its data may be elsewhere."""
    hub.check(settings.hub, folder)
    hub.files_to_upload(folder)
    console = make_console(soft_wrap=True)
    try:
        if not (folder / run_layout.REPORT).exists():  # whoever deletes it does not want its questions to be seen
            raise ValueError("the folder has none; scripts/report.py without --push_to_hub writes it")
        check_installed(html=True)
        _report(settings, folder, folder, console)
    except (ValueError, OSError) as error:
        console.print(visible(f"no new {run_layout.REPORT}: {error}"))
    pushed = hub.push(folder, settings.hub)
    console.print(f"uploaded {len(pushed.names)} files to {visible(pushed.repo_id)}: {visible(pushed.url)}")


def _print(console: Console, report: Report, path: Path) -> None:
    console.print(f"{visible(report.title)}: {visible(report.subtitle)}")
    console.print(f"report: {visible(path)} ({path.stat().st_size / 1e6:.1f} MB)")


def _sides(settings: ReportConfig) -> tuple[list[Path], list[Path]]:
    runs, against = list(settings.runs), list(settings.against)
    if not runs:
        raise ValueError("give a run: the output_dir of train.py or predict.py, or a file of predictions")
    if not against and len(runs) == 2:
        runs, against = runs[:1], runs[1:]
    if not against and len(runs) > 2:
        raise ValueError(
            f"{len(runs)} runs are given; to compare two sides with several seeds each, give those of the other side to --against"
        )
    absolute = [path.resolve() for path in [*runs, *against]]
    if twice := next((path for path in absolute if absolute.count(path) > 1), None):
        raise ValueError(f"{twice} is given twice; a run compared with itself says nothing")
    return runs, against


def _output_folder(settings: ReportConfig, first: Path) -> Path | None:
    """None: nothing is written."""
    if settings.output_dir or settings.console:
        return settings.output_dir
    if first.is_file():  # beside it may be the report of the run that predicted it, which knows more
        raise ValueError(
            f"{first} is a file: give the folder for its report with --output_dir, or print tables with --console"
        )
    return first


def _given(settings: ReportConfig) -> GivenData:
    names = ("id_column", "question_column", "context_column", "answers_column")
    columns = {name: getattr(settings, name) for name in names}
    given = {name: column for name, column in columns.items() if column is not None}
    return GivenData(settings.validation_file, given, settings.answer_language)


def _judged_sides(found: list[tuple[RunFiles, RunData]], count: int) -> tuple[Side, Side, list[str]]:
    names = run_names([run_files.path for run_files, _ in found])
    datas, notes = common_data(found, names)
    judged = [judge(run_files, data) for (run_files, _), data in zip(found, datas)]
    sides = [(names[:count], judged[:count]), (names[count:], judged[count:])]
    side_names = numbered([_side_name(of_side) for of_side, _ in sides])
    here, there = (Side(name, *side) for name, side in zip(side_names, sides))
    doubts = [f"{name}: {warning}" for each, name in zip(judged, names) for warning in each.warnings]
    return here, there, notes + doubts


def _side_name(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    folders = {name.rpartition("/")[0] for name in names}
    if len(folders) > 1 or folders == {""}:
        return f"{names[0]} and {len(names) - 1} more"
    return f"{folders.pop()} ({len(names)} runs)"


def defaults_of(run_files: RunFiles) -> dict[str, Any]:
    """Of the settings of the command that wrote the folder. Imports torch."""
    if not run_files.settings:
        return {}
    if run_files.trained:
        from qa_accel.training.settings import TrainConfig

        return config.defaults(TrainConfig)
    from qa_accel.commands.settings.predict import PredictConfig

    return config.defaults(PredictConfig)
