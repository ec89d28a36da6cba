"""Train on growing parts of the training data, fit a power law to the error, and say what twice the data would give."""

from qa_accel import config, shell_words
from qa_accel.commands.settings.learning_curve import LearningCurveConfig
from qa_accel.distributed import run_folder, signals, stop
from qa_accel.experiments import child_run, curve_report, curve_runs
from qa_accel.reporting.local_places import last_part
from qa_accel.reporting.requirements import check_installed
from qa_accel.terminal import make_console, visible
from qa_accel.training.settings import TrainConfig

Config = LearningCurveConfig


def run(settings: LearningCurveConfig) -> int:
    """Train, fit, report. Returns the exit code, that of a stopped run after a stop signal.

    Raises ValueError for a recipe or data that cannot work, for a folder in which another process runs a curve, and for a run
    that failed.
    """
    if stop.launched():
        raise ValueError("start the learning curve without a launcher: it launches its runs itself (--launcher)")
    check_installed(html=True)
    signals.listen((*signals.STOP_SIGNALS, "SIGINT"))
    launcher = child_run.launcher_words(settings.launcher)
    console = make_console(soft_wrap=True)
    recipe = config.parse(TrainConfig, ["--config", str(settings.recipe), "--output_dir", str(settings.output_dir)])
    run_folder.make_writable(settings.output_dir)
    run_folder.hold(settings.output_dir)
    seeds = [recipe.runtime.seed + number for number in range(settings.seeds)]
    wanted = config.changed(recipe)
    runs = curve_runs.prepare(wanted, recipe.data, settings.output_dir, settings.fractions, seeds)
    for number, one in enumerate(runs, 1):
        console.print(
            f"run {number} of {len(runs)}: 1/{one.fraction}, {one.questions:,} questions of {one.contexts:,} contexts, "
            f"seed {one.seed}: {visible(one.folder)}"
        )
        result = curve_runs.train(one, launcher)
        if result.state == "stopped":
            console.print(f"stopped ({visible(result.reason or 'STOP')}); start the same command again to go on")
            return stop.EXIT_CODE
    curve_report.write_curve_report(settings.output_dir, runs, wanted, _command(settings), console)
    return 0


def _command(settings: LearningCurveConfig) -> str:
    """Without the folders of this machine: the page is passed on."""
    given = {name: value for name, value in config.changed(settings).items() if name not in ("recipe", "output_dir")}
    if "launcher" in given:
        given["launcher"] = " ".join(map(last_part, settings.launcher.split()))
    own = {"recipe": settings.recipe.name, "output_dir": "runs/curve"}
    return " ".join(["python scripts/learning_curve.py", *shell_words.flags(own | given)])
