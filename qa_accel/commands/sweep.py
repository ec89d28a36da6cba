"""Search settings of a training run: one worker, of as many as are started with the same command."""

import io
import itertools
import re
import tempfile
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import yaml

from qa_accel import config
from qa_accel.commands.settings.sweep import SweepConfig
from qa_accel.distributed import run_folder, signals, stop
from qa_accel.experiments import child_run, space
from qa_accel.experiments.sweep_report import write_sweep_report
from qa_accel.experiments.trials import SweepPlan
from qa_accel.experiments.worker import Worker
from qa_accel.messages import one_line
from qa_accel.training.part_settings import EvaluationConfig
from qa_accel.training.settings import TrainConfig

Config = SweepConfig


def run(settings: SweepConfig) -> int:
    """Work on the sweep until no trial is free. Returns the exit code: 0, or 75 if a signal stopped it.

    Raises ValueError for a space that cannot be, a folder with another sweep, and trials that fail one after the other.
    """
    if stop.launched():
        raise ValueError("start the sweep without a launcher: it launches its runs itself (--launcher)")
    signals.listen((*signals.STOP_SIGNALS, "SIGINT"))
    plan = _plan(settings)
    folder = Path(settings.output_dir)
    run_folder.make_writable(folder)
    if found := next((path.name for name in run_folder.OF_A_RUN for path in sorted(folder.glob(name))), None):
        raise ValueError(
            f"--output_dir {folder} is the folder of a training run (it holds {found}); take another folder"
        )
    finished = Worker(folder, plan, why_refused, _say).work()
    if not finished:  # a signal leaves little time; who ends the sweep writes the report
        return stop.EXIT_CODE
    write_sweep_report(folder)
    return 0


def _plan(settings: SweepConfig) -> SweepPlan:
    """What the command line and the file say, checked as far as it can be without a run."""
    defaults = config.defaults(TrainConfig)
    searched = space.read_space(settings.space, config.setting_types(TrainConfig), defaults)
    fixed = dict(searched.fixed)
    names = {parameter.name for parameter in searched.parameters}
    if "seed" not in names:  # said in the plan, since the confirmations take other seeds
        fixed.setdefault("seed", defaults["seed"])
    chosen_by = config.setting_types(EvaluationConfig)["metric_for_best_model"]
    if "metric_for_best_model" not in names and settings.metric in chosen_by.__args__:
        fixed.setdefault("metric_for_best_model", settings.metric)
    space.check_values(space.Space(searched.parameters, fixed), str(settings.space), why_refused)
    return SweepPlan(
        sampler=settings.sampler,
        seed=settings.seed,
        trials=settings.trials,
        metric=settings.metric,
        space=searched.parameters,
        fixed=fixed,
        launcher=child_run.launcher_words(settings.launcher),
        pruner=settings.pruner,
        confirm_seeds=settings.confirm_seeds,
    )


def why_refused(settings: dict[str, Any]) -> str | None:
    """Why a training run would refuse these settings before it begins, in one line; None if it takes them."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder, "config.yaml")
        recipe.write_text(yaml.safe_dump({"output_dir": "trial"} | settings, allow_unicode=True), encoding="utf-8")
        said = io.StringIO()
        try:
            with redirect_stderr(said):
                config.parse(TrainConfig, ["--config", str(recipe)])
        except SystemExit:
            return one_line(_without_frame(said.getvalue().replace(f"--config {recipe}: ", "")))
    return None


def _without_frame(text: str) -> str:
    """The message in the frame that the parser of the command line draws; a text without one as it is."""
    lines = [line[1:].rstrip("│ ").strip() for line in text.splitlines() if line.startswith("│")]
    message = " ".join(itertools.takewhile(lambda line: not line.startswith("──"), lines))
    return re.sub(r"^Error parsing \w+: ", "", message) or text


def _say(text: str) -> None:
    print(text, flush=True)
