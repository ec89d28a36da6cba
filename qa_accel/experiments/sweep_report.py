"""The folder of a sweep -> trials.csv, best.yaml, results.json and sweep.html in it, and a table on the console.

Any process may write them at any time, also while trials go on: each file appears whole. One process at a time reads and
writes, so that who writes last has read last.
"""

from pathlib import Path

from qa_accel import files, run_layout
from qa_accel.distributed.claims import Claims
from qa_accel.experiments import luck_page, sweep_page
from qa_accel.experiments.sweep_exports import as_dict, best_recipe, csv_text
from qa_accel.experiments.sweep_results import SweepResults, read_sweep
from qa_accel.experiments.trials import read_plan
from qa_accel.reporting.console_tables import console_table
from qa_accel.reporting.requirements import why_not
from qa_accel.reporting.write import write_page
from qa_accel.terminal import make_console, visible

ROWS_ON_CONSOLE = 15
CLAIM = "report"


def write_sweep_report(folder: Path) -> None:
    """Raises ValueError for a folder that is no sweep's, and OSError where it cannot be written.

    Without the packages of the extra `report` the table, trials.csv and best.yaml are written, and a line says what is missing.
    """
    read_plan(folder)  # a folder that is none gets no file of claims
    claims = Claims(folder)
    claims.take(CLAIM, wait=True)
    try:
        _write(folder, read_sweep(folder))
    finally:
        claims.give_back(CLAIM)


def _write(folder: Path, results: SweepResults) -> None:
    console = make_console(soft_wrap=True)
    files.write_text(folder / run_layout.TRIALS_TABLE, csv_text(results))
    console.print(console_table(sweep_page.short_table(results, ROWS_ON_CONSOLE)))
    if len(results.trials) > ROWS_ON_CONSOLE:
        console.print(
            f"{len(results.trials) - ROWS_ON_CONSOLE} more trials: {visible(folder / run_layout.TRIALS_TABLE)}"
        )
    if results.best is not None:
        files.write_text(folder / run_layout.BEST_RECIPE, best_recipe(results))
        console.print(f"best: trial {results.best.number}, {visible(folder / run_layout.BEST_RECIPE)}")
    if (reason := why_not(html=True)) is not None:
        console.print(f"no {run_layout.SWEEP_PAGE}: {reason}, then scripts/report.py {visible(folder)}")
        return
    if results.best_confirmed is not None:
        console.print(console_table(luck_page.luck_table(results)))
    files.write_json(folder / run_layout.SWEEP_RESULTS, as_dict(results))
    write_page(folder / run_layout.SWEEP_PAGE, sweep_page.report(results))
    console.print(f"report: {visible(folder / run_layout.SWEEP_PAGE)}")
