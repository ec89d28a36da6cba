"""Flags: values out of range, nan, infinite, words, huge; choices; combinations that cannot work."""

from typing import Any

from bad_input_cases.case import Accepted, Case, Check, Either, Expected, Place, Refused, Run, trains

ACCEPTED = Accepted(trains)


def flag(name: str, value: Any, expected: Expected | None = None, command: str = "train", **others: Any) -> Case:
    """`--name=value`; a list is several words."""

    def make(place: Place) -> Run:
        words = [f"--{name}", *map(str, value)] if isinstance(value, (list, tuple)) else [f"--{name}={value}"]
        run = getattr(place, command)(**{name: None} | others)
        return Run(run.command, run.words + words)

    shown = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    shown = shown if len(shown) < 40 else f"{shown[:12]}... of {len(shown)} letters"
    return Case("flag", f"--{name} {shown} ({command})", make, expected or Refused(name))


def either(name: str, check: Check = trains) -> Either:
    return Either(check, (name,))


NUMBERS: dict[str, dict[str, str]] = {
    "learning_rate": {"refused": "-inf -1 0 high"},
    "weight_decay": {"refused": "nan inf -inf -1", "accepted": "0"},
    "adam_beta1": {"refused": "nan inf -1 1 2", "accepted": "0"},
    "adam_beta2": {"refused": "nan inf -1 1 2"},
    "adam_epsilon": {"refused": "nan inf -1", "either": "0"},
    "layerwise_lr_decay": {"refused": "nan inf -1 0 2"},
    "max_grad_norm": {"refused": "nan -inf -1", "either": "inf", "accepted": "0"},
    "warmup_ratio": {"refused": "nan inf -1 1.5"},
    "num_warmup_steps": {"refused": "-1 nan 1.5", "either": "1000000000000"},
    "save_minutes": {"refused": "nan -1 0", "either": "inf"},
    "max_train_hours": {"refused": "nan -1 0", "either": "inf 1e300"},
    "lora_alpha": {"refused": "nan inf -1 0"},
    "lora_dropout": {"refused": "nan inf -1 1"},
    "null_score_diff_threshold": {"refused": "nan low", "either": "inf -inf 1e400"},
    "save_steps": {"refused": "-1 0 1.5 nan", "either": "1000000000000"},
    "eval_steps": {"refused": "-1 0 1.5 nan", "either": "1000000000000"},
    "logging_steps": {"refused": "-1 0 1.5 nan", "either": "1000000000000"},
    "save_total_limit": {"refused": "-1 0 1.5", "either": "1000000000000"},
    "early_stopping_patience": {"refused": "-1 0 1.5", "either": "1000000000000"},
    "per_device_train_batch_size": {"refused": "-1 0 1.5 nan", "either": "1000000000 100000000000000000000"},
    "per_device_eval_batch_size": {"refused": "-1 0 1.5", "either": "1000000000 100000000000000000000"},
    "gradient_accumulation_steps": {"refused": "-1 0 1.5", "either": "1000000000 100000000000000000000"},
    "num_train_epochs": {"refused": "-1 0 1.5", "either": "10000000000000000000000000"},
    "max_train_steps": {"refused": "-1 0 1.5"},
    "max_seq_length": {"refused": "-1 0 10 129 1000000000000 64.5"},
    "doc_stride": {"refused": "-1 45 1000000000000 nan", "accepted": "0"},
    "max_query_length": {"refused": "-1 0 62 1000000000000"},
    "n_best_size": {"refused": "-1 0 1.5", "either": "1000000000"},
    "max_answer_length": {"refused": "-1 0 1.5", "accepted": "1000000000"},
    "seed": {"refused": "1.5 nan word", "either": "-1 4294967296 100000000000000000000"},
    "ddp_timeout": {"refused": "-1 0 1.5 nan", "either": "1000000000000"},
    "freeze_layers": {"refused": "-1 3 1000000000000 1.5"},
    "lora_r": {"refused": "-1 1.5", "either": "512"},
}
"""Flag -> values by what is expected of `train`. What computes the same, or nothing else than asked for, may be accepted."""


def numbers() -> list[Case]:
    made = []
    for name, by_outcome in NUMBERS.items():
        others = {"lora_r": 4} if name in ("lora_alpha", "lora_dropout") else {}
        for outcome, values in by_outcome.items():
            expected = {"refused": Refused(name), "either": either(name), "accepted": ACCEPTED}[outcome]
            made += [flag(name, value, expected, **others) for value in values.split()]
    digits, refused = "1" * 5000, Refused("--learning_rate")  # not after steps whose loss is no number
    made += [flag("learning_rate", value, refused) for value in ("nan", "inf", "1e400", digits)]
    made += [flag("seed", digits), flag("learning_rate", ""), flag("seed", "")]
    made += [flag("n_best_size", value, command="predict") for value in ("0", "-1", "nan")]
    made += [flag("per_device_eval_batch_size", value, command="predict") for value in ("0", "-1", "nan")]
    made += [flag("null_score_diff_threshold", value, command="predict") for value in ("nan", "low")]
    return made


def predicted(place: Place, output: str) -> str | None:
    return None if (place.output / "config.yaml").is_file() else "no config.yaml, which predict writes last"


def choices() -> list[Case]:
    names = "lr_scheduler_type batching dtype attn_implementation compile metric_for_best_model"
    made = [flag(name, value) for name in names.split() for value in ("magic", "")]
    return [
        *made,
        flag("attn_implementation", "flash_attention_2"),
        flag("attn_implementation", "flex_attention", either("attn_implementation")),
        flag("batching", "packed", either("batching")),
        flag("batching", "packed", either("batching", predicted), command="predict"),
        flag("dtype", "float16", either("dtype")),
        flag("dtype", "bfloat16", either("dtype")),
        flag("report_to", "nothing"),
        flag("report_to", ["tensorboard", "nothing"], Refused("report_to")),
        flag("report_to", "", either("report_to")),
        flag("report_to", "all", either("report_to")),
        flag("stop_signals", "SIGNOTHING", Refused("SIGNOTHING")),
        flag("stop_signals", "SIGKILL", Refused("SIGKILL")),
        flag("stop_signals", "15", either("stop_signals")),
        flag("stop_signals", "[/]", Refused("[/]")),
        flag("version_2_with_negative", "perhaps"),
        flag("version_2_with_negative", "false"),
        flag("gradient_checkpointing", "perhaps", Refused("perhaps")),
        flag("model_revision", "", either("model_revision")),
        flag("lora_target_modules", "nowhere", lora_r=4),
        flag("lora_target_modules", "[", lora_r=4),
        flag("lora_target_modules", "LayerNorm", lora_r=4),
        flag("lora_target_modules", "query"),
        flag("project_name", "[/] \x1b[31m", ACCEPTED),
    ]


def lines() -> list[Case]:
    """Command lines whose form is wrong."""

    def line(name: str, expected: Expected, *words: str, command: str = "train", **settings: Any) -> Case:
        return Case("flag", f"{name} ({command})", lambda place: getattr(place, command)(*words, **settings), expected)

    made = []
    for command in ("train", "predict", "prepare", "score"):
        made.append(
            line("a flag that does not exist", Refused("--no_such_flag"), "--no_such_flag", "1", command=command)
        )
    return [
        *made,
        line("a misspelt flag", Refused("--learning_rte", "--learning_rate"), "--learning_rte", "1"),
        line("a flag with one dash", Refused("-seed"), "-seed", "7"),
        line("a word between", Refused("word"), "word"),
        line("a flag without its value", Refused("seed"), "--seed"),
        line("a flag twice", Either(trains, ("seed",)), "--seed", "7", "--seed", "8"),
        line("a flag of markup", Refused("--[/]"), "--[/]", "1"),
        line("a flag of escape sequences", Refused("31mx"), "--\x1b[31mx", "1"),
        line("a flag that is not UTF-8", Refused("flag"), "--flag\udcff", "1"),
        line("a flag of the old package", Refused("--do_train"), "--do_train"),
        line("two dashes alone", Either(trains, ("--",)), "--"),
        line("no output_dir", Refused("output_dir"), output_dir=None),
        line("no output_dir", Refused("output_dir"), command="predict", output_dir=None),
        line("no model", Refused("model_name_or_path"), model_name_or_path=None),
        line("no model", Refused("model_name_or_path"), command="predict", model_name_or_path=None),
        line("no test_file", Refused("test_file"), command="predict", test_file=None),
        line("no predictions_file", Refused("predictions_file"), command="score", predictions_file=None),
        Case("flag", "no word at all (summary)", lambda place: Run("summary", []), Refused("results")),
        line("freeze_layers and lora_r", Refused("freeze_layers"), freeze_layers=1, lora_r=4),
        line("merge_lora without lora_r", Refused("merge_lora"), "--merge_lora"),
        line("early stopping without evaluation", Either(trains, ("early_stopping_patience",)), early_stopping_patience=1, validation_file=None),
        line("resume from a missing checkpoint", Refused("resume_from_checkpoint"), resume_from_checkpoint="nowhere"),
        line("resume from markup", Refused("resume_from_checkpoint", "[/]"), resume_from_checkpoint="[/]"),
        line("resume from an empty path", Either(trains, ("resume_from_checkpoint",)), "--resume_from_checkpoint="),
        line("resume from a file", Refused("resume_from_checkpoint"), resume_from_checkpoint="/dev/null"),
    ]  # fmt: skip


def cases() -> list[Case]:
    return numbers() + choices() + lines()
