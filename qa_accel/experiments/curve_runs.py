"""A train recipe -> training runs on parts of its training data, one after the other, each a child process.

curve.json                   what is trained; another recipe or other data in the same folder is refused
parts/                       the parts as JSONL, one set for each seed; validation.jsonl where the recipe names a data set
recipes/                     the recipe of each run
part-16/seed-42/             a usual training run, on a sixteenth of the contexts
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import yaml

from qa_accel import config, files
from qa_accel.data.named_sets import named_files
from qa_accel.data.questions import has_split, has_unanswerable, load_questions, select_rows
from qa_accel.data.settings import DataConfig
from qa_accel.experiments import child_run, training_parts
from qa_accel.experiments.child_run import ChildResult
from qa_accel.experiments.space import RESERVED
from qa_accel.input_files import read_json
from qa_accel.messages import listed

PLAN = "curve.json"
SELECTION = ("max_train_samples", "train_shuffle_seed", "train_num_shards", "train_shard")
"""Settings that choose among the training questions: the parts are drawn from what they choose."""
VALIDATION_SELECTION = (
    "max_eval_samples",
    "validation_shuffle_seed",
    "validation_num_shards",
    "validation_shard",
)
NOT_COMPARED = ("cache_dir", "report_to", "project_name", "logging_steps")
"""Settings of a recipe that do not change what is learnt."""


@dataclass(frozen=True)
class CurveRun:
    """One training run of a learning curve."""

    fraction: int
    seed: int
    contexts: int
    questions: int
    recipe: Path
    folder: Path


def prepare(
    recipe: Mapping[str, Any], data: DataConfig, folder: Path, fractions: Sequence[int], seeds: Sequence[int]
) -> list[CurveRun]:
    """Write the parts and the recipes; the smallest parts first, of each all seeds.

    `recipe`: settings of the training run without output_dir. Raises ValueError where the folder has runs of another recipe,
    the data has too few contexts or no validation questions, or the recipe has a setting that this command decides itself.
    """
    _check_reserved(recipe)
    if not has_split(data, "validation"):
        raise ValueError("the recipe has no validation questions, so there is no error to draw; set validation_file")
    if data.train_file is not None and named_files(data.train_file, "train_file") is not None:
        raise ValueError(
            "the recipe trains on several named sets, which a learning curve does not divide: give files without names"
        )
    questions, validation = load_questions(data, "train"), load_questions(data, "validation")
    paragraph_Q = training_parts.paragraphs_of(questions)
    parts = {seed: training_parts.nested_parts(paragraph_Q, fractions, seed) for seed in seeds}
    common = _common_settings(recipe, data, folder)
    if data.version_2_with_negative is None:  # a small part may have none of the questions without answer
        common["version_2_with_negative"] = has_unanswerable(questions) or has_unanswerable(validation)
    _check_plan(folder, {"recipe": common, "data": [questions._fingerprint, validation._fingerprint]})
    if data.validation_file is None:
        _write_once(_validation_file(folder), load_questions(_whole_validation(data), "validation"), data)
    runs = []
    for place in range(len(parts[seeds[0]])):
        for seed in seeds:
            part = parts[seed][place]
            name = f"part-{part.fraction}"
            file = folder / "parts" / f"seed-{seed}" / f"{name}.jsonl"
            _write_once(file, select_rows(questions, part.rows_Q), data)
            path = folder / "recipes" / f"{name}-seed-{seed}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            settings = common | {"train_file": [str(file)], "seed": seed}
            files.write_text(path, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
            run_folder = folder / name / f"seed-{seed}"
            runs.append(CurveRun(part.fraction, seed, part.contexts, len(part.rows_Q), path, run_folder))
    return runs


def train(run: CurveRun, launcher: Sequence[str]) -> ChildResult:
    """Run it, go on with it, or read what it gave. Raises ValueError if it failed."""
    result = child_run.train(run.recipe, run.folder, launcher)
    if result.state == "failed":
        raise ValueError(f"{run.folder}: training failed: {result.reason}; its output is in {child_run.LOG} there")
    return result


def _check_reserved(recipe: Mapping[str, Any]) -> None:
    """Raises ValueError for a setting that is not for one run of many: the same ones as in a sweep."""
    for name in recipe:
        if name in RESERVED and name != "output_dir":
            raise ValueError(
                f"the recipe sets {name}, which cannot be set in a learning curve, nor in a sweep ({RESERVED[name]}); "
                "take it out of the recipe"
            )


def _common_settings(recipe: Mapping[str, Any], data: DataConfig, folder: Path) -> dict[str, Any]:
    """What all runs have: the recipe's settings but for the training data, which come from the parts."""
    dropped = (*SELECTION, "train_file", "test_file", "dataset_name", "dataset_config_name", "output_dir", "seed")
    common = {name: value for name, value in recipe.items() if name not in dropped}
    return common | ({"validation_file": [str(_validation_file(folder))]} if data.validation_file is None else {})


def _validation_file(folder: Path) -> Path:
    """Of a data set's validation questions: files and a data set cannot be mixed."""
    return folder / "parts" / "validation.jsonl"


def _whole_validation(data: DataConfig) -> DataConfig:
    """The runs choose among its questions as the recipe says."""
    defaults = config.defaults(DataConfig)
    return replace(data, **{name: defaults[name] for name in VALIDATION_SELECTION})


def _write_once(path: Path, questions: datasets.Dataset, data: DataConfig) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        training_parts.write_questions(path, questions, data.columns)


def _check_plan(folder: Path, plan: Mapping[str, Any]) -> None:
    """Raises ValueError if the folder's runs are of another recipe or other data."""
    compared = {name: value for name, value in plan["recipe"].items() if name not in NOT_COMPARED}
    path = folder / PLAN
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(path, {**plan, "recipe": compared})
        return
    stored = read_json(path)
    before = stored.get("recipe") if isinstance(stored, dict) else None
    if not isinstance(before, dict):
        raise ValueError(f"{path}: is not what scripts/learning_curve.py writes; give another --output_dir")
    differing = [name for name in compared.keys() | before.keys() if compared.get(name) != before.get(name)]
    differing += ["the training data"] if stored.get("data") != plan["data"] else []
    if differing:
        raise ValueError(
            f"{folder}: its runs differ from this recipe in {listed(sorted(differing))}; give another --output_dir, or delete it"
        )
