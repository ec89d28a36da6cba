"""Write report.html of a run, or of two runs that are compared: one file to open offline or to mail.

python scripts/report.py runs/squad_v2
python scripts/report.py runs/squad_v2 runs/squad_v2_large
python scripts/report.py runs/sweep

A run is the output_dir of train.py or predict.py, or a file of predictions (with --validation_file, and --output_dir for the
report). Beside the report, error_analysis.json holds the kind of every answer and all slices; a comparison writes
comparison.html and comparison.json. Of the folder of a sweep, sweep.html and the files beside it are written again.
"""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from qa_accel.hub_settings import HubConfig
from qa_accel.language_by_set import check_languages


@dataclass(frozen=True)
class ReportConfig:
    runs: tyro.conf.Positional[tuple[Path, ...]]
    """A run, or two runs to compare. With --against, all of them are one side: runs that differ in their seed."""
    against: tuple[Path, ...] = ()
    """The other side of a comparison: one run, or several that differ in their seed."""
    validation_file: tuple[str, ...] | None = None
    """Questions with gold answers, if not those that the run's config.yaml names: the files were moved, or predictions alone are
    given."""
    id_column: str | None = None
    """Column of the question's id, if not as in the run."""
    question_column: str | None = None
    """Column of the question's text, if not as in the run."""
    context_column: str | None = None
    """Column of the context, if not as in the run."""
    answers_column: str | None = None
    """Column of the gold answers, if not as in the run."""
    answer_language: tuple[str, ...] | None = None
    """Language whose rules compare answers, as in train.py, if not as in the run."""
    output_dir: Path | None = None
    """Folder to write in. Not given: that of the first run; a file of predictions has none, since the files beside it may be those
    of a run."""
    console: bool = False
    """Print the error analysis, or the comparison, as tables instead of writing a report. Nothing is written; with --output_dir,
    error_analysis.json or comparison.json there."""
    hub: HubConfig = field(default_factory=HubConfig)

    def __post_init__(self):
        if self.answer_language is not None:
            check_languages(self.answer_language)


Config = ReportConfig
