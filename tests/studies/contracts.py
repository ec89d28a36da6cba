"""python tests/studies/contracts.py [--model_name_or_path FOLDER] [--ratio 3] [--epochs 3] [--output_dir FOLDER] [flags of train]

Trainings on 30 made-up contracts of 5,000 words with 12 questions each (tests/support/made_up_contracts.py), where about one
window of a hundred holds an answer: on every window, with --negative_window_ratio, and with it for eight times as many
epochs. Prints of each the windows of an epoch, optimizer steps, seconds of the steps, and the scores on five other contracts;
with `--answers all` among them CUAD's. Without a model, a small one is made, whose trainings take some minutes; other flags
go to all trainings.
"""

import support_path  # noqa: F401

# isort: split


import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from made_up_contracts import make_small_model, write_contracts
from toy import flags

REPOSITORY = Path(__file__).resolve().parents[2]
WINDOWS: dict[str, Any] = dict(max_seq_length=128, doc_stride=32, max_query_length=24, max_answer_length=40)
SMALL: dict[str, Any] = dict(learning_rate=2e-3, per_device_train_batch_size=32, per_device_eval_batch_size=128)
SCORES = ("exact", "f1", "HasAns_f1", "NoAns_f1", "best_f1", "aupr", "precision_at_80_recall", "precision_at_90_recall")
"""Those that a run has are printed."""


def train(folder: Path, settings: dict[str, Any], more: list[str]) -> dict[str, Any]:
    """Results of a run, with the windows of its epochs."""
    words = [sys.executable, "scripts/train.py", *flags(**settings, output_dir=folder), *more]
    ran = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True)
    if ran.returncode:
        sys.exit(ran.stdout + ran.stderr)
    results = json.loads((folder / "all_results.json").read_text())
    windows = json.loads((folder / "data_report.json").read_text())["train"]["windows"]
    epoch = windows.get("epoch", {"without_answer": windows["windows"] - windows["windows_with_answer"]})
    return results | {"with_answer": windows["windows_with_answer"], "without_answer": epoch["without_answer"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_name_or_path", type=Path)
    parser.add_argument("--ratio", type=float, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--output_dir", type=Path, help="keeps data and runs; default: a temporary folder")
    options, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.output_dir or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        files = write_contracts(folder)
        settings = dict(train_file=files.train, validation_file=files.test, cache_dir=folder / "cache", **WINDOWS)
        settings["model_name_or_path"] = options.model_name_or_path or make_small_model(folder / "model")
        if options.model_name_or_path is None:
            settings |= {name: value for name, value in SMALL.items() if f"--{name}" not in more}
        print("ratio  epochs    with  without    steps  seconds  " + "  ".join(SCORES), flush=True)
        for ratio, epochs in ((None, 1), (options.ratio, 1), (options.ratio, 8)):
            own = {"num_train_epochs": epochs * options.epochs}
            own |= {} if ratio is None else {"negative_window_ratio": ratio}
            found = train(folder / f"ratio-{ratio or 'all'}-{epochs}", settings | own, more)
            scores = (
                f"{found[score]:{len(score)}.2f}" if score in found else "-".rjust(len(score)) for score in SCORES
            )
            print(
                f"{ratio or 'all':>5}  {own['num_train_epochs']:6}  {found['with_answer']:6,}  "
                f"{found['without_answer']:7,}  {found['steps']:7,}  {found['seconds_of']['steps']:7.1f}  "
                + "  ".join(scores),
                flush=True,
            )


if __name__ == "__main__":
    main()
