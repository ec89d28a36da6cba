"""The recipes for sets in other languages, long documents and other domains, each on a tiny model of its architecture and toy data."""

import json
import re
from pathlib import Path

import pytest
import toy
import yaml
import zoo
from processes import run, script

from qa_accel import config
from qa_accel.commands import predict, train

RECIPES = {
    "xquad_mbert": ("bert", 11),
    "mlqa_xlm_roberta": ("xlm-roberta", 7),
    "cuad_roberta": ("roberta", 0),
    "covid_qa_roberta": ("roberta", 0),
    "squadshifts_roberta": ("roberta", 4),
    "chaii_xlm_roberta": ("xlm-roberta", 2),
}
"""Name -> the zoo's tiny model of the architecture, and how many named sets are scored."""


def read(repository: Path, name: str) -> dict:
    return yaml.safe_load((repository / "scripts" / "recipes" / f"{name}.yaml").read_text())


def on_toy_data(value: list[str] | str, data: Path) -> list:
    """The same sets, with their names and weights, of one file."""
    files = [value] if isinstance(value, str) else value
    return [re.sub(r"(^|=)data/[^:]*", rf"\g<1>{data}", each) for each in files]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_on_a_tiny_model_of_its_architecture(name, tmp_path, repository):
    """Breaks if a setting of the recipe is unknown or refused for its architecture, or a set of it is not scored by itself."""
    kind, sets = RECIPES[name]
    recipe = read(repository, name)
    data = toy.squad_file(tmp_path / "data.json", toy.NAMES[:6], "q")
    if recipe["version_2_with_negative"] is False:
        content = json.loads(data.read_text())
        for paragraph in content["data"][0]["paragraphs"]:
            paragraph["qas"] = [row for row in paragraph["qas"] if row["answers"]]
        data.write_text(json.dumps(content))
    settings = {
        key: on_toy_data(recipe[key], data) for key in ("train_file", "validation_file", "test_file") if key in recipe
    }
    settings |= dict(model_name_or_path=zoo.make(kind, tmp_path / "model"), output_dir=tmp_path / "run")
    settings |= dict(cache_dir=tmp_path / "cache", **toy.WINDOWS)
    command = "predict" if "test_file" in recipe else "train"
    if command == "train":
        settings |= dict(max_train_samples=6, max_eval_samples=3, max_train_steps=2)
    argv = ["--config", str(repository / "scripts" / "recipes" / f"{name}.yaml"), *toy.flags(**settings)]
    [left] = run(script, repository / "scripts" / f"{command}.py", argv)
    assert left.code == 0, left.output
    scores = json.loads((tmp_path / "run" / "all_results.json").read_text())
    named = [key for key in scores if key.endswith("_total") and key not in ("HasAns_total", "NoAns_total")]
    assert len([key for key in named if not key.endswith(("HasAns_total", "NoAns_total"))]) == sets
    assert ("mean_f1" in scores) == (sets > 0)


def test_what_a_recipe_expects_is_on_the_page_of_recipes(repository):
    """Breaks if a recipe's expected score changes on one side only, or a recipe is missing from the page."""
    page = (repository / "docs" / "recipes.md").read_text()
    for name in RECIPES:
        text = (repository / "scripts" / "recipes" / f"{name}.yaml").read_text()
        [row] = [line for line in page.splitlines() if line.startswith(f"| `{name}`")]
        for figure in re.findall(r"# Expected: (?:EM|AUPR) ([\d.]+), (?:F1|precision at 80 % recall) ([\d.]+)", text):
            assert f"| {figure[0]} | {figure[1]} |" in row
        assert (
            config.setting_types(train.Config).keys() | config.setting_types(predict.Config).keys()
            >= yaml.safe_load(text).keys()
        )
