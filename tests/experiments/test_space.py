"""A sweep's file: values have the settings' types, and whatever cannot be is refused by file and name before any run."""

from pathlib import Path

import pytest

from qa_accel import config
from qa_accel.commands import sweep
from qa_accel.experiments.space import RESERVED, Parameter, read_space
from qa_accel.training.settings import TrainConfig

KINDS, DEFAULTS = config.setting_types(TrainConfig), config.defaults(TrainConfig)


def write(folder: Path, text: str) -> Path:
    path = folder / "space.yaml"
    path.write_text(text)
    return path


def test_choices_and_ranges_have_the_types_of_their_settings(tmp_path):
    """Breaks if `no` becomes a text, 8 a float, or a list of words one word."""
    text = """
settings: {model_name_or_path: m, num_train_epochs: 2}
space:
  learning_rate: {low: 1e-5, high: 1.0e-4, log: true}
  per_device_train_batch_size: [8, 16]
  num_warmup_steps: {low: 0, high: 100, step: 10}
  load_best_model_at_end: [yes, no]
  eval_steps: [null, 50]
  lora_target_modules: [[query], [query, value]]
"""
    space = read_space(write(tmp_path, text), KINDS, DEFAULTS)
    assert space.fixed == {"model_name_or_path": "m", "num_train_epochs": 2}
    assert space.parameters == (
        Parameter("learning_rate", "float", 1e-5, 1e-4, log=True),
        Parameter("per_device_train_batch_size", "choice", choices=(8, 16)),
        Parameter("num_warmup_steps", "int", 0, 100, step=10),
        Parameter("load_best_model_at_end", "choice", choices=(True, False)),
        Parameter("eval_steps", "choice", choices=(None, 50)),
        Parameter("lora_target_modules", "choice", choices=(["query"], ["query", "value"])),
    )
    assert all(Parameter.from_dict(one.as_dict()) == one for one in space.parameters)


def test_a_bound_of_zero_survives_the_plan():
    one = Parameter("weight_decay", "float", -1.0, 0.0)
    assert Parameter.from_dict(one.as_dict()) == one


def test_settings_win_over_the_recipe_and_the_space_over_both(tmp_path):
    """Breaks if a setting that is searched is fixed too, or the recipe's output_dir becomes that of all trials."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model_name_or_path: m\noutput_dir: runs/x\nlearning_rate: 1e-5\nseed: 3\n")
    text = f"recipe: {recipe}\nsettings: {{seed: 4}}\nspace: {{learning_rate: [1e-4]}}\n"
    assert read_space(write(tmp_path, text), KINDS, DEFAULTS).fixed == {"model_name_or_path": "m", "seed": 4}


def test_the_settings_that_a_run_wrote_are_a_recipe(tmp_path):
    """A run's config.yaml has every setting. Breaks if those that a sweep decides itself are refused at their defaults; if
    they are dropped in silence where they have another value."""
    run = config.parse(TrainConfig, ["--model_name_or_path", "m", "--output_dir", "runs/mine", "--seed", "9"])
    recipe = tmp_path / "config.yaml"
    recipe.write_text(config.dump(run))
    path = write(tmp_path, f"recipe: {recipe}\nspace: {{learning_rate: [1e-4]}}\n")
    fixed = read_space(path, KINDS, DEFAULTS).fixed
    assert fixed == {
        name: value for name, value in config.as_dict(run).items() if name != "learning_rate" and name not in RESERVED
    }
    recipe.write_text(config.dump(run).replace("push_to_hub: false", "push_to_hub: true"))
    with pytest.raises(ValueError, match="push_to_hub cannot be set in a sweep"):
        read_space(path, KINDS, DEFAULTS)


REFUSED = {
    "learning_rat: [1]": "space: unknown setting 'learning_rat'; did you mean 'learning_rate'?",
    "learning_rate: 1e-4": "space: learning_rate must be a list of choices or {low, high}, found '1e-4'",
    "learning_rate: []": "space: learning_rate has no choices; give at least one",
    "learning_rate: [much]": "space: learning_rate must be a number, found 'much'",
    "learning_rate: [1e-4, 0.0001]": "space: learning_rate has the choice 0.0001 twice; name each once",
    "learning_rate: {low: 1}": "space: learning_rate has no high; a range has both, low and high",
    "learning_rate: {low: 2, high: 1}": "space: learning_rate: low must be less than high, found 2.0 and 1.0",
    "learning_rate: {low: 0, high: 1, log: true}": "space: learning_rate: low must be more than 0 where log is true, found 0.0",
    "learning_rate: {low: 1, high: 2, log: maybe}": "space: learning_rate: log must be true or false, found 'maybe'",
    "learning_rate: {low: .nan, high: 2}": "space: learning_rate: low must be finite, found nan",
    "learning_rate: {low: [1], high: 2}": "space: learning_rate: low must be a number, found ['1']",
    "learning_rate: {low: 1, hihg: 2}": "space: learning_rate: unknown key 'hihg'; did you mean 'high'?",
    "weight_decay: {low: 0, high: 1, step: 2}": "space: weight_decay: step must be in (0, 1], found 2.0",
    "weight_decay: {low: 1, high: 2, step: 0.1, log: true}": "space: weight_decay: step has no meaning where log is true",
    "num_warmup_steps: {low: 0.5, high: 2}": "space: num_warmup_steps: low must be an integer, found '0.5'",
    "lr_scheduler_type: {low: 1, high: 2}": "space: lr_scheduler_type is no number, so it cannot have a range",
    "lr_scheduler_type: [lineal]": "space: lr_scheduler_type must be one of linear, cosine, constant, found 'lineal'",
    "output_dir: [a]": "space: output_dir cannot be set in a sweep: each trial has its own folder",
    "max_train_hours: [1]": "space: max_train_hours cannot be set in a sweep: a run that it stops",
    "num_warmup_steps: {low: 0, high: 1" + 400 * "0" + "}": "space: num_warmup_steps: high must be at most 2**53",
    "push_to_hub: [true]": "space: push_to_hub cannot be set in a sweep: every trial would be uploaded",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_no_run_could_take_is_refused_by_name(line, tmp_path):
    """Breaks if a mistake in the file is found by the first trial, after an hour in the queue."""
    path = write(tmp_path, f"space:\n  {line}\n")
    with pytest.raises(ValueError) as error:
        read_space(path, KINDS, DEFAULTS)
    assert f"{path}: {REFUSED[line]}" in str(error.value)


FILES = {
    "": "space is empty; name at least one setting",
    "space: {}": "space is empty; name at least one setting",
    "space: [1]": "space must be `setting: value` lines",
    "- 1": "expected `setting: value` lines, found a list",
    "spcae: {seed: [1]}": "unknown section 'spcae'; did you mean 'space'?",
    "recipe: [a]\nspace: {seed: [1]}": "recipe must be the path of a train recipe",
    "recipe: nowhere.yaml\nspace: {seed: [1]}": "recipe nowhere.yaml: there is no such file",
    "settings: {sed: 1}\nspace: {seed: [1]}": "settings: unknown setting 'sed'; did you mean 'seed'?",
    "settings: {seed: x}\nspace: {learning_rate: [1]}": "settings: seed must be an integer, found 'x'",
    "space: {seed: [1], seed: [2]}": "'seed' is given twice",
    "space: {a: {": "cannot be read as YAML",
}


@pytest.mark.parametrize("text", FILES)
def test_a_file_that_is_no_space_is_refused(text, tmp_path):
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match="^" + str(path)) as error:
        read_space(path, KINDS, DEFAULTS)
    assert FILES[text] in str(error.value)


def test_a_value_out_of_its_range_is_refused_before_any_trial(tmp_path):
    """Breaks if only types are checked: the trials with this value would fail one by one."""
    text = "settings: {model_name_or_path: m}\nspace:\n  learning_rate: [1e-4, -1e-4]\n"
    with pytest.raises(ValueError, match=r"space: learning_rate: --learning_rate must be more than 0, got -0.0001"):
        sweep.run(sweep.SweepConfig(write(tmp_path, text), str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_a_value_that_only_a_combination_makes_impossible_is_not_refused_beforehand(tmp_path):
    """Breaks if a space is refused of which other combinations are possible."""
    text = "settings: {model_name_or_path: m, max_query_length: 64}\nspace:\n  max_seq_length: [64, 128]\n"
    plan = sweep._plan(sweep.SweepConfig(write(tmp_path, text), "o"))
    assert plan.space[0].choices == (64, 128)
    reason = sweep.why_refused(plan.fixed | {"max_seq_length": 64})
    assert reason == "max_seq_length must be more than max_query_length (64), got 64"
    assert sweep.why_refused(plan.fixed | {"max_seq_length": 128}) is None


def test_the_seed_of_training_and_the_choice_of_the_best_model_are_said_in_the_plan(tmp_path):
    """Breaks if trials differ in a seed that nobody asked for, or the value is of a model that another score chose."""
    path = write(tmp_path, "settings: {model_name_or_path: m}\nspace: {learning_rate: [1e-4]}\n")
    fixed = sweep._plan(sweep.SweepConfig(path, "o", metric="best_exact")).fixed
    assert (fixed["seed"], fixed["metric_for_best_model"]) == (config.defaults(TrainConfig)["seed"], "best_exact")
    path = write(tmp_path, "settings: {model_name_or_path: m, metric_for_best_model: f1}\nspace: {seed: [1, 2]}\n")
    fixed = sweep._plan(sweep.SweepConfig(path, "o")).fixed
    assert "seed" not in fixed and fixed["metric_for_best_model"] == "f1"


def test_every_space_of_the_project_can_be_searched(repository, monkeypatch):
    """Breaks if an example names a setting that was renamed."""
    monkeypatch.chdir(repository)
    found = sorted(Path("scripts/spaces").glob("*.yaml"))
    assert found, "there are examples"
    for path in found:
        assert sweep._plan(sweep.SweepConfig(path, "o")).space


@pytest.mark.parametrize("where", ["settings", "recipe"])
def test_a_fixed_value_out_of_its_range_is_refused_before_the_first_trial(where, tmp_path):
    """Breaks if all trials are started and fail, one after the other, for a setting that none of them changes."""
    (tmp_path / "recipe.yaml").write_text("warmup_ratio: 5\n")
    given = "settings: {warmup_ratio: 5" if where == "settings" else f"recipe: {tmp_path}/recipe.yaml\nsettings: {{"
    given += (", " if where == "settings" else "") + "model_name_or_path: m, train_file: [a.json]}"
    path = write(tmp_path, f"{given}\nspace: {{learning_rate: [1e-4, 1e-3]}}\n")
    with pytest.raises(
        ValueError, match=r"warmup_ratio, of settings or recipe: --warmup_ratio must be at most 1, got 5\.0"
    ):
        sweep._plan(sweep.SweepConfig(path, str(tmp_path / "s"), launcher="true"))
