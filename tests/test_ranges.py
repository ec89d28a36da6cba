"""A setting outside of its range is refused where it is declared, whatever the command; all numbers of all commands."""

import dataclasses
import importlib
import math
import re
import typing
from pathlib import Path
from types import UnionType

import pytest

from qa_accel import cli, config
from qa_accel.commands.settings.serve import ServeConfig
from qa_accel.models.settings import ModelConfig
from qa_accel.ranges import COUNT, LARGEST, check_ranges
from qa_accel.training.settings import TrainConfig

REQUIRED = {
    "model": ModelConfig("m"),
    "output_dir": "o",
    "space": Path("s.yaml"),
    "recipe": Path("r.yaml"),
    "model_name_or_path": "m",
    "prediction": Path("p"),
    "predictions_file": "p.json",
    "validation_file": ("v.json",),
}
ODD_NUMBERS = (math.nan, math.inf, -math.inf, -1e308)
ODD_INTEGERS = (0, -1, 10**30)
ACCEPTED = {
    "null_score_diff_threshold": (math.inf, -math.inf, -1e308),  # never, and always, "no answer"
    "no_answer_threshold": (math.inf, -math.inf, -1e308),
    **dict.fromkeys(("seed", "train_shuffle_seed", "validation_shuffle_seed"), (0,)),
    "confirm_seeds": (0,),
    **dict.fromkeys(("train_shard", "validation_shard"), (0,)),  # the first part
    "negative_window_ratio": (0,),  # only windows with an answer
    **dict.fromkeys(("lora_r", "freeze_layers"), (0,)),  # no adapter; the embeddings alone
    **dict.fromkeys(("num_warmup_steps", "warmup_steps", "doc_stride"), (0,)),
    "port": (0,),  # any free one
}
"""Odd values that mean something."""


def numbers() -> list[tuple[type, str, type]]:
    """Settings class, name, float or int: every number of every command, once."""
    found: dict[tuple[type, str], type] = {}
    for command in cli.COMMANDS:
        classes = [importlib.import_module(f"qa_accel.commands.{command}").Config]
        for one in classes:  # grows while it is read: classes nest within classes
            for name, kind in typing.get_type_hints(one).items():
                kinds = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, UnionType) else (kind,)
                if dataclasses.is_dataclass(kind):
                    classes.append(typing.cast(type, kind))
                for number in (float, int):
                    if number in kinds:
                        found[one, name] = number
    return [(owner, name, number) for (owner, name), number in found.items()]


def built(owner: type, **settings: object) -> object:
    fields = {field.name for field in dataclasses.fields(owner)}
    required = REQUIRED | ({"model": ("m",)} if owner is ServeConfig else {})  # several models, by name
    return owner(**{name: value for name, value in required.items() if name in fields} | settings)


def test_the_numbers_of_all_commands_are_found():
    """Breaks if the sweep below runs over nothing."""
    names = {name for _, name, _ in numbers()}
    assert len(names) > 40
    assert {"learning_rate", "adam_beta2", "save_minutes", "no_answer_threshold", "windows", "lora_dropout"} <= names


@pytest.mark.parametrize(("owner", "name", "number"), [pytest.param(*one, id=one[1]) for one in numbers()])
def test_every_number_refuses_what_it_cannot_be_and_names_flag_and_value(owner, name, number):
    """nan is neither above nor below a bound, so a plain comparison lets it through; a huge integer overflows later."""
    for value in ODD_NUMBERS if number is float else ODD_INTEGERS:
        if any(value == good for good in ACCEPTED.get(name, ())):
            assert getattr(built(owner, **{name: value}), name) == value
            continue
        shown = "an integer of 31 digits" if value == 10**30 else str(value)
        with pytest.raises(ValueError, match=rf"--{name} must be .*got {re.escape(shown)}"):
            built(owner, **{name: value})


@pytest.mark.parametrize("value", ["nan", "inf", "9" * 400, "9" * 5000])
@pytest.mark.parametrize("flag", ["--adam_epsilon", "--ddp_timeout"])
def test_on_the_command_line_such_a_number_exits_with_2_and_one_message(flag, value, capsys):
    with pytest.raises(SystemExit) as left:
        config.parse(TrainConfig, ["--model_name_or_path", "m", "--output_dir", "o", flag, value])
    message = capsys.readouterr().err
    assert left.value.code == 2 and flag in message and len(message) < 1500


@dataclasses.dataclass
class Knob:
    turn: float | None

    def __post_init__(self):
        check_ranges(self, turn="(0, 1]")


@dataclasses.dataclass
class Count:
    items: int

    def __post_init__(self):
        check_ranges(self, items=COUNT)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "--turn must be more than 0, got 0"),
        (-math.inf, "--turn must be more than 0, got -inf"),
        (1.5, "--turn must be at most 1, got 1.5"),
        (math.nan, "--turn must be a number, got nan"),
        (10**400, "--turn must be at most 1, got an integer of 401 digits"),
    ],
)
def test_a_parenthesis_excludes_its_bound_and_a_bracket_does_not(value, said):
    with pytest.raises(ValueError) as refusal:
        Knob(value)
    assert str(refusal.value) == said
    assert Knob(1).turn == 1 and Knob(1e-300).turn == 1e-300 and Knob(None).turn is None


def test_a_count_goes_from_1_to_the_largest_integer_of_32_bits():
    assert Count(1).items == 1 and Count(LARGEST).items == 2_147_483_647
    for value, said in ((0, "at least 1, got 0"), (2**31, "at most 2147483647, got 2147483648")):
        with pytest.raises(ValueError, match=f"--items must be {said}"):
            Count(value)
