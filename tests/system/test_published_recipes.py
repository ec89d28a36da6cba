"""The recipes with published settings, each run on a tiny model of its architecture: the hub is out of reach of tests."""

import json
import re

import pytest
import toy
import yaml
import zoo
from processes import run
from training_runs import train_script

ARCHITECTURES = {
    "": ("bert", "bert-base-uncased"),
    "_distilbert": ("distilbert", "distilbert/distilbert-base-uncased"),
    "_roberta": ("roberta", "FacebookAI/roberta-base"),
    "_deberta_v3": ("deberta-v3", "microsoft/deberta-v3-base"),
    "_modernbert": ("modernbert", "answerdotai/ModernBERT-base"),
}
"""End of a recipe's name -> the zoo's tiny model, and the hub's."""
RECIPES = [(version, end) for version in ("squad_v1", "squad_v2") for end in ARCHITECTURES]


def answerable_file(path):
    """SQuAD v1.1 has no question without an answer."""
    content = json.loads(toy.squad_file(path, toy.NAMES[:6], "v1").read_text())
    for paragraph in content["data"][0]["paragraphs"]:
        paragraph["qas"] = [row for row in paragraph["qas"] if row["answers"]]
    path.write_text(json.dumps(content))
    return path


def case(version, end):
    """Of each architecture one recipe, and of SQuAD v1.1 one more: the others differ in numbers."""
    marks = pytest.mark.slow if version == "squad_v1" and end else []
    return pytest.param(version, end, id=f"{version}{end}", marks=marks)


@pytest.mark.parametrize(("version", "end"), [case(version, end) for version, end in RECIPES])
def test_a_recipe_trains_and_scores_a_tiny_model_of_its_architecture(version, end, tmp_path, repository):
    """Breaks if a setting of the recipe is refused for its architecture, or the scores are those of the other task."""
    kind, hub_name = ARCHITECTURES[end]
    recipe = repository / "scripts" / "recipes" / f"{version}{end}.yaml"
    assert yaml.safe_load(recipe.read_text())["model_name_or_path"] == hub_name
    make = answerable_file if version == "squad_v1" else lambda path: toy.squad_file(path, toy.NAMES[:6], "v2")
    data = make(tmp_path / "data.json")
    settings = dict(model_name_or_path=zoo.make(kind, tmp_path / "model"), train_file=data, validation_file=data)
    settings |= dict(output_dir=tmp_path / "run", cache_dir=tmp_path / "cache", max_train_steps=2, **toy.WINDOWS)
    [left] = run(train_script, ["--config", str(recipe), *toy.flags(**settings)], [])
    assert left.code == 0, left.output
    scores = json.loads((tmp_path / "run" / "all_results.json").read_text())
    assert ("NoAns_f1" in scores) == (version == "squad_v2")
    assert scores["total"] == (12 if version == "squad_v1" else 18)


def test_the_page_of_recipes_has_each_with_what_its_head_expects(repository):
    """Breaks if a recipe's expected score changes on one side only, or a recipe is missing from the page."""
    page = (repository / "docs" / "recipes.md").read_text()
    for version, end in RECIPES:
        text = (repository / "scripts" / "recipes" / f"{version}{end}.yaml").read_text()
        [(exact, f1)] = re.findall(r"# Expected: EM ([\d.]+), F1 ([\d.]+)", text)
        [row] = [line for line in page.splitlines() if f"`{version}{end}`" in line]
        assert f"| {exact} | {f1} |" in row
        settings = yaml.safe_load(text)
        batch, epochs = settings["per_device_train_batch_size"], settings["num_train_epochs"]
        assert f"| {batch} | {epochs} | {settings['learning_rate']:.0e} |".replace("e-0", "e-") in row
