"""Defaults < recipe < flags, the way back to a file, and what is said about a setting that does not exist."""

import dataclasses
import inspect
import re
from pathlib import Path

import documented_commands as commands
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qa_accel import config
from qa_accel.commands.settings.predict import PredictConfig
from qa_accel.training.settings import TrainConfig

REPOSITORY = Path(__file__).resolve().parents[1]
RECIPES = sorted((REPOSITORY / "scripts" / "recipes").glob("*.yaml"))
LAUNCHES = sorted((REPOSITORY / "accelerate_configs").glob("*.yaml"))


@dataclasses.dataclass(frozen=True)
class Engine:
    power: float = 1.5
    """Kilowatts."""
    fuels: tuple[str, ...] | None = None
    """What it burns."""

    def __post_init__(self):
        if self.power <= 0:
            raise ValueError(f"--power must be positive, got {self.power}")


@dataclasses.dataclass(frozen=True)
class Boat:
    name: str
    """Painted on the bow."""
    engine: Engine = dataclasses.field(default_factory=Engine)
    sails: bool = False
    """Whether it has any."""
    heated: bool | None = None
    """None: finds out by itself."""
    crew: int | None = None
    """People."""


def parse(*words: str) -> Boat:
    return config.parse(Boat, ["--name", "Ada", *words])


def test_flags_win_over_the_recipe_and_the_recipe_over_the_defaults(tmp_path):
    """Breaks if the order of the three is another one, wherever --config is on the line."""
    recipe = tmp_path / "boat.yaml"
    recipe.write_text("power: 7\ncrew: 3\n")
    assert parse() == Boat("Ada")
    assert parse("--config", str(recipe)) == Boat("Ada", engine=Engine(power=7), crew=3)
    assert parse("--crew", "5", "--config", str(recipe)) == Boat("Ada", engine=Engine(power=7), crew=5)


def test_a_later_recipe_wins_over_an_earlier_one(tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("power: 7\ncrew: 3\n")
    second.write_text("crew: 4\n")
    assert parse(f"--config={first}", f"--config={second}") == Boat("Ada", engine=Engine(power=7), crew=4)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--sails"], {"sails": True}),
        (["--sails", "true"], {"sails": True}),
        (["--sails=True"], {"sails": True}),
        (["--sails", "false"], {"sails": False}),
        (["--sails=False"], {"sails": False}),
        (["--no_sails"], {"sails": False}),
        (["--sails", "--crew", "2"], {"sails": True, "crew": 2}),
        (["--heated"], {"heated": True}),
        (["--heated", "true"], {"heated": True}),
        (["--heated=false"], {"heated": False}),
        (["--heated", "none"], {"heated": None}),
        (["--heated", "--crew", "2"], {"heated": True, "crew": 2}),
        (["--crew=None"], {"crew": None}),
    ],
)
def test_switches_are_read_in_the_spellings_that_hugging_faces_scripts_take(words, expected):
    assert parse(*words) == Boat("Ada", **expected)


def test_dashes_in_a_flag_are_as_good_as_underscores():
    assert config.parse(TrainConfig, ["--model-name-or-path", "m", "--output-dir", "o"]).model.model_name_or_path == "m"


def test_lists_come_as_words_or_as_a_yaml_list(tmp_path):
    recipe = tmp_path / "boat.yaml"
    recipe.write_text("fuels: [oil, rum]\n")
    assert parse("--fuels", "oil", "rum").engine.fuels == ("oil", "rum")
    assert parse("--config", str(recipe)).engine.fuels == ("oil", "rum")


@pytest.mark.parametrize("name", ["pow", "powr", "Power"])
def test_an_unknown_key_of_a_recipe_exits_with_2_and_names_the_nearest(name, tmp_path, capsys):
    recipe = tmp_path / "boat.yaml"
    recipe.write_text(f"{name}: 7\n")
    with pytest.raises(SystemExit) as left:
        parse("--config", str(recipe))
    message = capsys.readouterr().err
    assert left.value.code == 2
    assert str(recipe) in message and repr(name) in message and "did you mean 'power'" in message


def test_an_unknown_flag_exits_with_2_and_names_the_nearest(capsys):
    with pytest.raises(SystemExit) as left:
        config.parse(TrainConfig, ["--model_name_or_path", "m", "--output_dir", "o", "--learning_rat", "1"])
    captured = capsys.readouterr()
    assert left.value.code == 2
    message = captured.out + captured.err
    assert "--learning_rat" in message and "--learning_rate" in message.replace("--learning_rat ", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--crew", "many"], "many"),
        (["--power", "-1"], "--power must be positive, got -1"),
        (["--config"], "--config needs a file"),
        (["--config", "no/such.yaml"], "no/such.yaml"),
    ],
)
def test_a_bad_value_exits_with_2_and_is_shown(words, said, capsys):
    with pytest.raises(SystemExit) as left:
        parse(*words)
    captured = capsys.readouterr()
    assert left.value.code == 2
    assert said in captured.out + captured.err


@pytest.mark.parametrize(
    ("content", "said"),
    [("- sails\n", "list"), ("sails: 3\n", "true or false"), ("name: [unclosed\n", "cannot be read as YAML")],
)
def test_a_recipe_that_is_no_recipe_exits_with_2_and_is_named(content, said, tmp_path, capsys):
    recipe = tmp_path / "boat.yaml"
    recipe.write_text(content)
    with pytest.raises(SystemExit) as left:
        parse("--config", str(recipe))
    assert left.value.code == 2
    assert said in capsys.readouterr().err


def test_only_rank_0_speaks_of_a_mistake_in_the_command_line(monkeypatch, capsys):
    """Breaks if every rank of a job says the same."""
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as left:
        parse("--crewe", "2")
    captured = capsys.readouterr()
    assert left.value.code == 2
    assert captured.out + captured.err == ""


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
    lambda text: text.strip() == text  # names and paths; YAML and the shell keep blanks within, and so do we
)
NUMBER = st.floats(1e-9, 1e9)
FILES = TEXT.filter(lambda text: not text.startswith("-") and text != "None")  # no command line could tell these apart


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(boat=Boat("-x", heated=True))
@example(boat=Boat("true", crew=-1, engine=Engine(power=1e-05)))
@example(boat=Boat("None"))
@example(boat=Boat("3"))
@given(
    boat=st.builds(
        Boat,
        name=TEXT,
        engine=st.builds(Engine, power=NUMBER, fuels=st.none() | st.lists(FILES, min_size=1, max_size=3).map(tuple)),
        sails=st.booleans(),
        heated=st.none() | st.booleans(),
        crew=st.none() | st.integers(-5, 10**6),
    )
)
def test_a_dumped_config_reads_back_as_itself(boat, tmp_path):
    """Breaks if a value is spelled in the file as something that is read as another: 1e-05, 'none', '-x', true, '3'."""
    recipe = tmp_path / "boat.yaml"
    recipe.write_text(config.dump(boat), encoding="utf-8")
    assert config.parse(Boat, ["--config", str(recipe)]) == boat


def test_what_differs_from_the_defaults_is_all_that_is_needed_to_get_the_settings_back():
    """Breaks if a setting without a default is left out, a nested one is lost, or one with its default is listed."""
    words = ["--model_name_or_path=m", "--output_dir=o", "--train_file=a", "--no_load_best_model_at_end", "--seed=42"]
    found = config.changed(config.parse(TrainConfig, words))
    assert found == {
        "model_name_or_path": "m",
        "output_dir": "o",
        "train_file": ["a"],
        "load_best_model_at_end": False,
    }


def test_every_setting_of_the_scripts_survives_the_way_to_a_file_and_back(tmp_path):
    """Breaks if a setting of some kind (a choice, several files, a number like 3e-05) cannot be written and read."""
    words = """--model_name_or_path m --output_dir o --train_file a.json b*.json --learning_rate 1e-7 --report_to tensorboard
    --lr_scheduler_type cosine --version_2_with_negative false --max_train_samples 9 --no_load_best_model_at_end
    --null_score_diff_threshold -1.5 --num_warmup_steps 3 --gradient_checkpointing --metric_for_best_model best_exact"""
    resolved = config.parse(TrainConfig, words.split())
    assert resolved.data.train_file == ("a.json", "b*.json") and resolved.data.version_2_with_negative is False
    recipe = tmp_path / "config.yaml"
    recipe.write_text(config.dump(resolved))
    assert config.parse(TrainConfig, ["--config", str(recipe)]) == resolved
    assert yaml.safe_load(recipe.read_text()).keys() == config.setting_types(TrainConfig).keys()


@pytest.mark.parametrize("config_class", [TrainConfig, PredictConfig])
def test_help_shows_every_flag(config_class, capsys):
    with pytest.raises(SystemExit) as left:
        config.parse(config_class, ["--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    for name in config.setting_types(config_class):
        assert f"--{name}" in shown


@pytest.mark.parametrize("config_class", [TrainConfig, PredictConfig])
def test_every_setting_has_a_sentence_below_it(config_class):
    """Breaks if a setting would show up in --help without saying what it does."""
    parts = [config_class]
    for part in parts:  # grows while it is read: classes nest within classes
        parts += [field.type for field in dataclasses.fields(part) if dataclasses.is_dataclass(field.type)]
    assert len(parts) > 4
    for part in parts:
        source = inspect.getsource(part)
        for field in dataclasses.fields(part):
            if field.type not in parts:
                explained = re.search(rf'\n    {field.name}: [^\n]+\n    """\S', source)
                assert explained, f"{part.__name__}.{field.name}"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_recipe_begins_with_its_command_and_the_script_takes_all_of_it(recipe):
    """Breaks if a recipe names a setting that is gone, or its head's command another file than itself."""
    head = [line.removeprefix("# ") for line in recipe.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    found = [line for line in head if line.startswith(("accelerate launch ", "python ", "make "))]
    assert found, f"{recipe.name} does not begin with its command"
    started = [command for command in found if f"--config {recipe.relative_to(REPOSITORY).as_posix()}" in command]
    assert started, "one of the commands takes this very recipe"
    for command in found:
        commands.check(command)
    parsed = config.as_dict(commands.check(started[0]))
    for key, value in yaml.safe_load(recipe.read_text()).items():
        assert parsed[key] == value, f"{key}: {value!r} in the file, {parsed[key]!r} read"


def test_the_notebooks_recipe_has_the_notebooks_numbers():
    """Breaks if a number that the classic notebook used drifts: its published result would no longer be comparable."""
    recipe = yaml.safe_load((REPOSITORY / "scripts" / "recipes" / "notebook.yaml").read_text())
    expected = dict(train_shuffle_seed=1, train_num_shards=25, train_shard=0, validation_shuffle_seed=1)
    expected |= dict(validation_num_shards=2, validation_shard=0, max_seq_length=384, doc_stride=128)
    expected |= dict(per_device_train_batch_size=16, num_train_epochs=3, learning_rate=2e-5, weight_decay=0.01)
    expected |= dict(n_best_size=20, max_answer_length=30)
    assert {key: recipe[key] for key in expected} == expected


@pytest.mark.parametrize("launch", LAUNCHES, ids=lambda launch: launch.name)
def test_accelerate_loads_every_launch_config_and_knows_all_its_keys(launch):
    """Breaks if a YAML has a key that accelerate does not know; accelerate says so only when a job starts."""
    from accelerate.commands.config.config_args import load_config_from_file

    loaded = load_config_from_file(str(launch))
    on_cpu = launch.name.startswith("cpu")  # there the script decides, by what the CPU multiplies
    assert loaded.mixed_precision == (None if on_cpu else "bf16")
    assert launch.read_text().startswith("#"), "the first line says what the file is for"
    for part in ("fsdp_config", "deepspeed_config"):
        if getattr(loaded, part, None):
            known = known_parameters(part)
            assert set(getattr(loaded, part)) <= known, f"{set(getattr(loaded, part)) - known} in {part}"


def known_parameters(part: str) -> set[str]:
    """Nested keys that `accelerate launch` passes on; of the others it says nothing at all."""
    from accelerate.commands.launch import launch_command_parser

    names = {action.dest for action in launch_command_parser()._actions}
    if part == "fsdp_config":
        return {name for name in names if name.startswith("fsdp_")}
    return names


def test_there_are_recipes_and_launch_configs_to_test():
    """Breaks if the folders move and the tests above run over nothing."""
    assert len(RECIPES) >= 4
    assert len(LAUNCHES) >= 5


def test_a_raw_setting_is_what_the_parser_takes(tmp_path):
    """Job scripts ask for output_dir this way. Breaks if a recipe wins over a flag, or an earlier flag over a later one."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("output_dir: from_recipe\nmodel_name_or_path: m\n")
    for flags, expected in (
        ([], "from_recipe"),
        (["--output_dir", "a"], "a"),
        (["--output-dir=a"], "a"),
        (["--output_dir=a", "--seed", "1", "--output_dir", "b"], "b"),
    ):
        argv = ["--config", str(recipe), *flags]
        assert config.peek_setting("output_dir", argv) == expected
        assert config.parse(TrainConfig, argv).checkpoint.output_dir == expected
    with pytest.raises(SystemExit):
        config.peek_setting("output_dir", ["--seed", "1"])
