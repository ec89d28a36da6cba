"""The card of a run: metadata that the hub's own parser reads back, commands that give the same numbers, and no way to break out."""

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hub_stand_in import wrong_metadata
from huggingface_hub import EvalResult, ModelCard, metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results
from launches import SCRIPTS
from processes import run, script

from qa_accel import config, shell_words
from qa_accel.data.settings import DataConfig
from qa_accel.hub import PLACEHOLDER
from qa_accel.hub_settings import HubConfig
from qa_accel.models.settings import AdapterConfig, ModelConfig
from qa_accel.reporting.model_card import CardOfRun
from qa_accel.training.part_settings import CheckpointConfig
from qa_accel.training.settings import TrainConfig

SCORES = {
    "exact": 80.125,
    "f1": 83.0625,
    "total": 16,
    "HasAns_exact": 70.0,
    "HasAns_f1": 75.0,
    "NoAns_exact": 90.0,
    "null_score_diff_threshold": 0.0,
    "best_exact": 81.25,
    "best_exact_thresh": -2.5,
    "best_f1": 84.75,
    "best_f1_thresh": -1.5,
}
REPORT = {
    "validation": {"questions": {"questions": 16, "contexts": 4, "without_answer": 8}, "windows": {"windows": 20}}
}


def card_of(settings: TrainConfig, scores: dict[str, Any] | None = SCORES, stored: float | None = -1.5) -> CardOfRun:
    return CardOfRun(
        settings=config.as_dict(settings),
        changed=config.changed(settings),
        launch="accelerate launch --num_processes 2 scripts/train.py",
        where="2 processes on <CPU>",
        data_report=REPORT,
        scores=scores,
        stored_threshold=stored,
    )


def settings(model: str = "lab/encoder", output: str = "runs/reader", **data: Any) -> TrainConfig:
    data = data or dict(train_file=("data/train.json",), validation_file=("data/dev.json",))
    return TrainConfig(ModelConfig(model), CheckpointConfig(output), DataConfig(**data))


def metadata_of(card: CardOfRun) -> dict[str, Any]:
    return ModelCard(card.text()).data.to_dict()


def blocks_of(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


# ---------------------------------------------------------------------------------------------------------- metadata


def test_the_hubs_parser_reads_the_same_numbers_back(tmp_path):
    """Breaks if a figure is rounded, is named after another metric, or has another figure's threshold."""
    card = card_of(settings(dataset_name="rajpurkar/squad_v2", dataset_config_name="squad_v2", max_eval_samples=16))
    path = tmp_path / "README.md"
    path.write_text(card.text(), encoding="utf-8")
    loaded = ModelCard.load(path)
    found: list[EvalResult] = loaded.data.eval_results
    assert [(one.metric_type, one.metric_value, one.metric_args["null_score_diff_threshold"]) for one in found] == [
        ("exact_match", 80.125, 0.0),
        ("f1", 83.0625, 0.0),
        ("f1", 84.75, -1.5),
    ]
    assert {
        (one.task_type, one.dataset_type, one.dataset_name, one.dataset_config, one.dataset_split) for one in found
    } == {("question-answering", "rajpurkar/squad_v2", "rajpurkar/squad_v2", "squad_v2", "validation")}
    assert [one.dataset_args for one in found] == 3 * [{"max_eval_samples": 16}]
    name, again = model_index_to_eval_results(metadata_load(path)["model-index"])
    assert name == "reader" and again == found == card.eval_results()


def test_what_the_hub_knows_is_linked(tmp_path):
    found = metadata_of(card_of(settings(dataset_name="rajpurkar/squad_v2")))
    assert found["base_model"] == "lab/encoder" and found["datasets"] == ["rajpurkar/squad_v2"]
    assert found["pipeline_tag"] == "question-answering" and found["library_name"] == "transformers"
    assert found["metrics"] == ["exact_match", "f1"]
    assert "language" not in found and "license" not in found


def test_what_is_local_is_named_and_links_to_nothing(tmp_path):
    """Breaks if a folder that happens to be called squad_v2 is shown as the hub's data set, or if a place gets out."""
    for name in ("squad_v2", "encoder"):
        (tmp_path / name).mkdir()
    folder = metadata_of(card_of(settings(str(tmp_path / "encoder"), dataset_name=str(tmp_path / "squad_v2"))))
    assert "base_model" not in folder and "datasets" not in folder
    [result] = folder["model-index"][0]["results"]
    assert result["dataset"]["type"] == "local-squad_v2" and result["dataset"]["name"] == "squad_v2 (a local data set)"
    files = metadata_of(card_of(settings(train_file=("t.json",), validation_file=("/home/me/dev.json", "b.json"))))
    [result] = files["model-index"][0]["results"]
    assert result["dataset"]["type"] == "local-dev.json" and result["dataset"]["name"] == "dev.json (and 1 more files)"
    assert "datasets" not in files


def test_a_data_set_that_files_replace_is_not_named(tmp_path):
    """Files win over a recipe's data set: breaks if the card claims the set was read."""
    card = card_of(settings(dataset_name="rajpurkar/squad_v2", train_file=("t.json",), validation_file=("dev.json",)))
    assert "datasets" not in metadata_of(card)
    assert "squad_v2" not in card.training_command() + card.evaluation_command(0.0)


def test_an_adapter_is_one_of_pefts_unless_it_is_merged():
    def library(**tuning: Any) -> str:
        base = settings()
        return metadata_of(
            card_of(TrainConfig(base.model, base.checkpoint, base.data, tuning=AdapterConfig(**tuning)))
        )["library_name"]

    pytest.importorskip("peft")
    assert [library(lora_r=4), library(lora_r=4, merge_lora=True), library()] == [
        "peft",
        "transformers",
        "transformers",
    ]


def test_without_scores_there_are_no_results():
    found = metadata_of(card_of(settings(train_file=("t.json",)), scores=None, stored=None))
    assert not {"model-index", "model_name", "metrics"} & found.keys()
    assert "Not evaluated" in card_of(settings(train_file=("t.json",)), scores=None, stored=None).text()


def test_where_every_question_has_an_answer_there_is_no_threshold():
    scores = {"exact": 80.0, "f1": 90.0, "total": 8, "HasAns_exact": 80.0, "HasAns_f1": 90.0}
    card = card_of(settings(), scores=scores, stored=None)
    assert [(one.metric_type, one.metric_name) for one in card.eval_results()] == [
        ("exact_match", "Exact match"),
        ("f1", "F1"),
    ]
    assert "null_score_diff_threshold" not in card.text()
    assert "| exact match | 80.00 |  |" in card.text()


def test_each_score_is_beside_its_own_threshold():
    """Breaks if a tuned score is shown as that of threshold 0, or the other way round."""
    given = {**SCORES, "null_score_diff_threshold": 2.0, "exact_threshold_0": 79.0, "f1_threshold_0": 82.0}
    lines = card_of(settings(), scores=given).text().splitlines()
    for line in (
        "| exact match | 80.12 | 2 |",
        "| exact match, unanswerable | 90.00 | 2 |",
        "| F1, answerable | 75.00 | 2 |",
        "| F1 at threshold 0 | 82.00 | 0 |",
        "| exact match at its best threshold | 81.25 | -2.5 |",
        "| F1 at its best threshold | 84.75 | -1.5 |",
    ):
        assert line in lines
    never = card_of(settings(), scores={**SCORES, "best_f1_thresh": 0.0}, stored=None)
    assert "config.json` keeps" not in never.text() and len(never.eval_results()) == 2
    same = card_of(settings(), scores={**SCORES, "null_score_diff_threshold": -1.5})
    assert len(same.eval_results()) == 2, "one F1 for one threshold"


# ---------------------------------------------------------------------------------------------------------- commands


def test_the_training_command_gives_the_settings_back():
    """Parsed as the script parses it. Breaks if a changed setting is missing, misspelt or badly quoted; places, trackers
    and the hub are the reader's own."""
    words = [
        "--model_name_or_path=lab/encoder",
        "--output_dir=runs/my reader",
        "--train_file",
        "/d/a b.json",
        "/d/it's.csv",
    ]
    words += ["--validation_file=/d/-dev.json", "--learning_rate=1e-4", "--no_load_best_model_at_end", "--eval_steps=7"]
    words += ["--null_score_diff_threshold=-1.5", "--version_2_with_negative=true", "--gradient_checkpointing"]
    words += ["--push_to_hub", "--hub_model_id=lab/x", "--cache_dir=/scratch/me", "--overwrite_output_dir"]
    given = config.parse(TrainConfig, words)
    launch, *command = shlex.split(card_of(given).training_command().replace("\\\n", " "))
    assert launch == "accelerate" and command[:4] == ["launch", "--num_processes", "2", "scripts/train.py"]
    found, expected = config.as_dict(config.parse(TrainConfig, command[4:])), config.as_dict(given)
    own = {"output_dir": "my reader", "train_file": ["a b.json", "it's.csv"], "validation_file": ["./-dev.json"]}
    own |= {"cache_dir": None, "overwrite_output_dir": False, **config.as_dict(HubConfig())}
    assert found == expected | own


def test_a_word_in_a_command_is_what_a_shell_reads_back():
    """bash itself is asked. Breaks if a quote, a line break or a control character in a name ends the word."""
    for word in (
        "plain",
        "it's",
        "a b",
        "a\nb",
        "\x1b[2J",
        "$(id)",
        "`id`",
        "a\\nb\n",
        "'\n",
        "a\u202eb",
        "-x",
        "東京",
        "\x9b3",
    ):
        shown = shell_words.quoted(word)
        assert "\n" not in shown and "\x1b" not in shown and "\u202e" not in shown
        environment = {"LC_ALL": "C.UTF-8"}
        done = subprocess.run(["bash", "-c", f"printf %s {shown}"], capture_output=True, env=environment, check=True)
        assert done.stdout.decode() == word


def test_the_evaluation_command_prints_the_numbers_of_the_card(trainer, tmp_path):
    """A run whose windows, columns and selection are not the defaults. Breaks if a setting that decides on the answers is not in
    the command, or a figure is that of another threshold."""
    folder = trainer.whole(
        tmp_path / "run", max_eval_samples=20, validation_shuffle_seed=3, max_train_steps=10, n_best_size=5
    )
    card = ModelCard.load(folder / "README.md")
    [command] = [block for block in blocks_of(card.text, "bash") if "predict.py" in block]
    results = card.data.eval_results
    assert len({one.metric_value for one in results}) > 1 and len(results) == 3, "thresholds that make a difference"
    for result in results:
        words = shlex.split(result.metric_args["command"])
        if result is results[0]:
            assert words == shlex.split(command.replace("\\\n", " "))
        assert words[:2] == ["python", "scripts/predict.py"] and "dev.json" in words
        answers = tmp_path / result.metric_type / str(result.metric_args["null_score_diff_threshold"])
        here = {PLACEHOLDER: folder, "dev.json": trainer.toy.dev, "answers": answers}
        [left] = run(script, SCRIPTS / "predict.py", [str(here.get(word, word)) for word in words[2:]])
        assert left.code == 0, left.output
        key = {"exact_match": "exact", "f1": "f1"}[result.metric_type]
        assert json.loads((answers / "all_results.json").read_text())[key] == pytest.approx(result.metric_value)


# ------------------------------------------------------------------------------------------------ what names can hold

HOSTILE = (
    "x](javascript:alert(1))<img src=x>`|~~~\n```\n# owned",
    "a\n---\nlicense: mit\n---\n",
    "\x1b]0;owned\x07",
    "a\u202eb\u2028c\x85d",
    "'\"{[%@!&*: - # |>",
    "null",
    "$x^2$ \\",
)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("scores", [None, SCORES])
def test_a_card_stays_a_card_whatever_files_and_models_are_called(text, scores):
    """Breaks if a name ends the metadata, a block of code or a line, becomes a link, or is taken for something else than text."""
    name = text.replace("/", "|")
    base = settings(
        f"/models/{name}", f"runs/{name}", train_file=(f"a/{name}",), validation_file=(f"a/{name}", f"b/{name}")
    )
    card = card_of(base, scores, stored=None if scores is None else -1.5)
    text_of_card = card.text()
    assert wrong_metadata(text_of_card) == []
    found = ModelCard(text_of_card)
    expected = {"pipeline_tag", "library_name", "tags"} | ({"metrics", "model-index"} if scores else set())
    assert found.data.to_dict().keys() == expected
    if scores:
        assert found.data.eval_results == card.eval_results()
        assert isinstance(found.data.model_name, str)
    [heading] = [line for line in found.text.splitlines() if line.startswith("# ")]
    for character in "[]<>`|~$":
        assert not re.search(rf"(?<!\\)(\\\\)*{re.escape(character)}", heading), f"{character} is escaped"
    fences = [line for line in text_of_card.splitlines() if line.startswith("```")]
    evaluation = ["```bash", "```"] if scores else []
    assert fences == ["```bash", "```", *evaluation, "```yaml", "```", "```python", "```"]
    assert r"\<CPU\>" in text_of_card and not set("\x1b\x07\u202e\u2028\x85") & set(text_of_card)


def test_no_place_of_this_machine_is_in_a_card(tmp_path):
    """Every setting that can name a place is given one. Breaks if a new one of them is shown whole."""
    place = str(tmp_path / "inner")
    (tmp_path / "inner").mkdir()
    words = [
        f"--{name}={place}/x" for name, kind in config.setting_types(TrainConfig).items() if kind in (str, str | None)
    ]
    odd = ("model_revision", "hub_model_id", "hub_revision", "dataset_config_name", "answer_language")
    words = [word for word in words if not word.startswith(tuple(f"--{name}=" for name in odd))]
    words += ["--train_file", f"{place}/a", "--validation_file", f"{place}/b", "--test_file", f"{place}/c"]
    given = config.parse(TrainConfig, [word for word in words if "_column" not in word and "project_name" not in word])
    assert len(words) > 7
    assert place not in card_of(given).text() and Path(place).parent.name not in card_of(given).text()
