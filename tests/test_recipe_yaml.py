"""A recipe means what it says, or is refused in one message that names the file and the key."""

import os

import pytest

from qa_accel import config
from qa_accel.commands.prepare import Config as PrepareConfig
from qa_accel.commands.settings.predict import PredictConfig
from qa_accel.commands.settings.summary import SummaryConfig
from qa_accel.training.settings import TrainConfig

HEAD = "model_name_or_path: m\n"


def parse(path, *flags: str, config_class: type = TrainConfig):
    return config.parse(config_class, ["--config", str(path), *flags])


def message(capsys, path, *flags: str, config_class: type = TrainConfig) -> str:
    """The one message on stderr of a recipe that is refused."""
    with pytest.raises(SystemExit) as left:
        parse(path, *flags, config_class=config_class)
    captured = capsys.readouterr()
    assert left.value.code == 2 and not captured.out and "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("output_dir: null", "output_dir must be a value (leave the line out for the default), found None"),
        ("output_dir:", "output_dir must be a value"),
        ("output_dir: ''", "--output_dir is empty"),
        ("output_dir: '  '", "--output_dir is empty"),
        ("output_dir: [a]", "output_dir must be one value, not a list, found ['a']"),
        ("output_dir: {a: b}", "output_dir must be text or a number, found {'a': 'b'}"),
        ('output_dir: "a\\0b"', "--output_dir a\\x00b: holds a NUL character"),
        ('output_dir: "a\\ud800"', "--output_dir a\\ud800: is not UTF-8"),
        ("output_dir: a\noutput_dir: b", "'output_dir' is given twice, in lines 2 and 3"),
        ("learning_rate: [1e-3, 2e-3]", "learning_rate must be one value, not a list, found ['1e-3', '2e-3']"),
        ("learning_rate: fast", "learning_rate must be a number, found 'fast'"),
        ("learning_rate: null", "learning_rate must be a value"),
        ("num_train_epochs: 1.5", "num_train_epochs must be an integer, found '1.5'"),
        ("num_train_epochs: " + "9" * 5000, "num_train_epochs must be an integer, found '99999"),
        ("lr_scheduler_type: steep", "lr_scheduler_type must be one of linear, cosine, constant, found 'steep'"),
        ("merge_lora: 3", "merge_lora must be true or false, found '3'"),
        ("version_2_with_negative: maybe", "version_2_with_negative must be true or false"),
        ("train_file: [a.json, null]", "train_file must be a list of texts, found ['a.json', None]"),
        ("train_file: ''", "--train_file is empty"),
        ("train_file: [a.json, '']", "--train_file is empty"),
        ("cache_dir: ''", "--cache_dir is empty"),
        ("tokenizer_name: ''", "--tokenizer_name is empty"),
        ("train_fil: a.json", "unknown setting 'train_fil'; did you mean 'train_file'?"),
        ("x" * 900 + ": a", "unknown setting 'xxx"),
        ("[" * 5000, "cannot be read as YAML"),
        ("train_file: " + "[" * 5000 + "]" * 5000, "cannot be read as YAML: it is nested too deeply"),
        ("report_to: !!python/name:os.system", "cannot be read as YAML"),
        ("- a", "expected `setting: value` lines, found a list"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused_with_file_and_key(content, said, tmp_path, capsys):
    """Breaks if null becomes a folder named None, an empty text the current folder, or the last of two keys wins."""
    path = tmp_path / "recipe.yaml"
    path.write_text((HEAD if not content.startswith(("[", "-")) else "") + content + "\n", encoding="utf-8")
    found = message(capsys, path)
    assert f"--config {path}: " in found and said in found
    assert len(found) < 2500, "what is wrong is shown, not all of it"


def test_aliases_that_expand_without_end_are_refused_in_a_short_message(tmp_path, capsys):
    """Ten lines of YAML that would print a billion words."""
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in zip("abcdefgh", "bcdefghi")]
    path = tmp_path / "recipe.yaml"
    path.write_text("\n".join([*lines, "train_file: *i"]) + "\n")
    assert len(message(capsys, path)) < 3000
    path.write_text("\n".join(["train_file:", *(f"- {line.partition(': ')[2]}" for line in lines)]) + "\n")
    assert "train_file must be a list of texts" in message(capsys, path)


def test_scalars_are_read_as_they_are_written(tmp_path):
    """YAML 1.1 makes 20240105, 83, False, 3.1 and a date of these; `no` and `off` are values of two settings."""
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "model_name_or_path: 3.10\noutput_dir: 2024_01_05\nmodel_revision: 0123\nresume_from_checkpoint: no\n"
        "compile: off\nproject_name: 2024-01-05\nmerge_lora: no\nsave_steps: 010\nlearning_rate: 1e-3\ncache_dir: ~\n"
        "version_2_with_negative: yes\ntrain_file: 007\nvalidation_file: [007, on]\n"
    )
    read = parse(path)
    assert read.model.model_name_or_path == "3.10" and read.model.model_revision == "0123"
    assert read.checkpoint.output_dir == "2024_01_05" and read.checkpoint.resume_from_checkpoint == "no"
    assert read.compile.compile == "off" and read.log.project_name == "2024-01-05"
    assert read.tuning.merge_lora is False and read.data.version_2_with_negative is True
    assert read.checkpoint.save_steps == 10 and read.optim.learning_rate == 0.001 and read.data.cache_dir is None
    assert read.data.train_file == ("007",) and read.data.validation_file == ("007", "on")


@pytest.mark.parametrize(("written", "meant"), [(".inf", "inf"), ("-.inf", "-inf"), ("inf", "inf"), ("-1.5", "-1.5")])
def test_infinity_may_be_spelled_as_yaml_or_as_python_does(written, meant, tmp_path):
    """config.yaml of a run has YAML's spelling."""
    path = tmp_path / "recipe.yaml"
    path.write_text(f"{HEAD}output_dir: o\nnull_score_diff_threshold: {written}\n")
    assert parse(path).spans.null_score_diff_threshold == float(meant)


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, capsys):
    """Breaks if a pipe without a writer is opened: that hangs for ever."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert f"--config {pipe}: is a pipe or a device, not a file" in message(capsys, pipe)
    assert "--config /dev/zero: is a pipe or a device, not a file" in message(capsys, "/dev/zero")
    assert f"--config {tmp_path}: is a folder, not a file" in message(capsys, tmp_path)
    assert "No such file" in message(capsys, tmp_path / "nowhere.yaml")
    large = tmp_path / "large.yaml"
    large.write_bytes(b"# \n" * 400_000)
    assert f"--config {large}: has 1,200,000 bytes, which is too large for a recipe" in message(capsys, large)


@pytest.mark.parametrize("config_class", [TrainConfig, PredictConfig, PrepareConfig])
@pytest.mark.parametrize("name", ["output_dir", "model_name_or_path", "cache_dir", "train_file", "tokenizer_name"])
@pytest.mark.parametrize("words", [["--{}", ""], ["--{}="], ["--{}", " "]])
def test_an_empty_flag_is_refused_as_an_unset_variable_of_the_shell_makes_it(config_class, name, words, capsys):
    """Breaks if "" is the current folder: a training run would replace the README.md that is there."""
    required = ["--model_name_or_path", "m", "--output_dir", "o"]
    with pytest.raises(SystemExit) as left:
        config.parse(config_class, [*required, *(word.format(name) for word in words)])
    assert left.value.code == 2
    assert f"--{name} is empty; give a value, or leave it out" in capsys.readouterr().err


def test_paths_that_are_no_setting_of_text_are_checked_too(capsys):
    for words in ([""], ["a.json", "--output_file", ""]):
        with pytest.raises(SystemExit) as left:
            config.parse(SummaryConfig, words)
        assert left.value.code == 2 and "is empty" in capsys.readouterr().err


def test_a_path_of_other_bytes_than_utf_8_is_refused_by_name(capsys):
    """As the shell hands it over. Breaks if it is written into config.yaml or an error: UnicodeEncodeError, far away."""
    for flag in ("--output_dir", "--train_file", "--model_name_or_path", "--cache_dir"):
        with pytest.raises(SystemExit) as left:
            config.parse(TrainConfig, ["--model_name_or_path", "m", "--output_dir", "o", flag, os.fsdecode(b"caf\xe9")])
        assert left.value.code == 2
        assert f"{flag} caf\\udce9: is not UTF-8" in capsys.readouterr().err


def test_a_job_script_gets_the_same_message_for_its_folder(tmp_path, capsys):
    """Breaks if the recipe is read in another way there: jobs.sh would make a folder that the run does not use."""
    path = tmp_path / "recipe.yaml"
    for content, said in (
        ("output_dir: 2024_01_05\n", None),
        ("output_dir: a\noutput_dir: b\n", "given twice"),
        ("output_dir: ''\n", "--output_dir is empty"),
        ("output_dir: [a]\n", "--output_dir must be one value"),
        ("[" * 5000, "cannot be read as YAML"),
    ):
        path.write_text(content)
        if said is None:
            assert config.peek_setting("output_dir", ["--config", str(path)]) == "2024_01_05"
            continue
        with pytest.raises(SystemExit) as left:
            config.peek_setting("output_dir", ["--config", str(path)])
        assert left.value.code == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize(("name", "said"), [("nothing", "no such tracker"), ("aim", "its package is not installed")])
def test_a_tracker_that_cannot_work_is_refused_with_the_command_line(name, said, tmp_path, capsys):
    """accelerate leaves out a tracker whose package is missing, without a word."""
    path = tmp_path / "recipe.yaml"
    path.write_text(f"{HEAD}output_dir: o\nreport_to: [{name}]\n")
    found = message(capsys, path)
    assert f"--report_to {name}: " in found and said in found
