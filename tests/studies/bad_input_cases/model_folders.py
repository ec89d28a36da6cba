"""Tokenizers that are damaged, folders that are none, code in a folder that nobody asked to run."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from bad_input_cases.case import (
    PAYLOAD,
    Accepted,
    Case,
    Either,
    Expected,
    Refused,
    anything,
    predicts_as_usual,
    trains,
)
from bad_input_cases.model_damage import (
    DEEP,
    FOLDER,
    Damage,
    content,
    edit,
    gone,
    model_case,
    replaced,
)


def tokenizers() -> list[Case]:
    name, made = "tokenizer.json", []
    contents = {
        "empty object": b"{}",
        "empty": b"",
        "broken": b'{"version": "1.0", ',
        "a list": b"[]",
        "null": b"null",
        "deep": DEEP,
        "random": bytes(range(256)),
        "of an unknown model": b'{"version": "1.0", "added_tokens": [], "model": {"type": "Magic"}}',
        "without vocabulary": b'{"version": "1.0", "added_tokens": [], "model": {"type": "WordPiece", "vocab": {}}}',
    }
    for what, written in contents.items():
        made += model_case(
            f"tokenizer.json {what}", content(name, written), also_train=what in ("empty object", "broken")
        )
    made += model_case("tokenizer.json missing", gone(name), Either(anything, (FOLDER,)))
    made += model_case("tokenizer.json a folder", replaced(name, lambda path: path.mkdir()))
    made += model_case("tokenizer.json a FIFO", replaced(name, os.mkfifo))
    settings = "tokenizer_config.json"
    for what, written in {"a list": b"[]", "broken": b"{", "deep": DEEP, "null": b"null"}.items():
        made += model_case(f"tokenizer_config {what}", content(settings, written))
    made += model_case("tokenizer_config missing", gone(settings), Either(anything, (FOLDER,)))
    fields: dict[str, tuple[dict[str, Any], Expected]] = {
        "of an unknown class": (dict(tokenizer_class="MagicTokenizer"), Either(predicts_as_usual, (FOLDER,))),
        "class a number": (dict(tokenizer_class=3), Either(predicts_as_usual, (FOLDER,))),
        "length text": (dict(model_max_length="long"), Either(predicts_as_usual, (FOLDER,))),
        "length negative": (dict(model_max_length=-1), Either(predicts_as_usual, (FOLDER,))),
        "length 0": (dict(model_max_length=0), Either(predicts_as_usual, (FOLDER,))),
        "length huge": (dict(model_max_length=10**30), Accepted(predicts_as_usual)),
        "inputs text": (dict(model_input_names="input_ids"), Either(anything, (FOLDER,))),
        "pad token a number": (dict(pad_token=3), Either(predicts_as_usual, (FOLDER,))),
        "pad token null": (dict(pad_token=None), Either(anything, (FOLDER,))),
        "padding side unknown": (dict(padding_side="above"), Either(anything, (FOLDER,))),
        "special tokens a list": (dict(special_tokens_map=[1], extra_special_tokens=3), Either(predicts_as_usual, (FOLDER,))),
        "code": (dict(auto_map={"AutoTokenizer": ["code.Code", "code.Code"]}), Either(predicts_as_usual, (FOLDER,))),
    }  # fmt: skip
    for what, (changes, expected) in fields.items():
        made += model_case(f"tokenizer_config {what}", lambda folder, c=changes: edit(folder / settings, **c), expected)
    made += model_case(
        "tokenizer of more tokens than the model", more_tokens, Refused("tokenizer_name"), also_train=True
    )
    made += model_case(
        "tokenizer_name missing", lambda folder: None, Refused("nowhere"), also_train=True, tokenizer_name="nowhere"
    )
    made += model_case(
        "tokenizer_name a file", lambda folder: None, Refused("config.json"), tokenizer_name=f"{FOLDER}/config.json"
    )
    return made


def more_tokens(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary |= {f"##new{number}": len(vocabulary) + number for number in range(500)}
    (folder / "tokenizer.json").write_text(json.dumps(content))


CODE = f"import os\nos.mkdir({PAYLOAD!r})\nclass Code:\n    pass\n"


def code(**changes: Any) -> Damage:
    def damage(folder: Path) -> None:
        (folder / "code.py").write_text(CODE)
        edit(folder / "config.json", **changes)

    return damage


def folders() -> list[Case]:
    made: list[Case] = []

    def emptied(folder: Path) -> None:
        shutil.rmtree(folder)
        folder.mkdir()

    def named(name: str) -> Damage:
        return lambda folder: os.renames(
            os.fsencode(folder), os.path.join(os.fsencode(folder.parent), os.fsencode(name))
        )

    missing: dict[str, tuple[str, str]] = {
        "missing": ("nowhere/at-all", "nowhere/at-all"),
        "a file": (f"{FOLDER}/config.json", "config.json"),
        "a name that the hub cannot have": ("a/b/c/d", "a/b/c/d"),
        "empty name": ("", "model_name_or_path"),
        "blank name": ("  ", "model"),
        "name of markup": ("[/]", "[/]"),
        "name with a line break": ("no\nmodel", "model"),
        "name with escape sequences": ("no\x1b[31mmodel", "model"),
        "name of 5,000 letters": ("a" * 5000, "model"),
        "name not UTF-8": ("no\udcffmodel", "model"),
        "a device": ("/dev/zero", "/dev/zero"),
        "a link to itself": ("loop", "loop"),
    }
    for what, (given, word) in missing.items():
        damage: Damage = (
            (lambda folder: (folder.parent / "loop").symlink_to("loop")) if given == "loop" else (lambda folder: None)
        )
        made += model_case(f"folder {what}", damage, Refused(word), given=given, also_train=what == "missing")
    made += model_case("folder empty", emptied, also_train=True)
    for what, name in {
        "markup": "[/]model[red]",
        "a line break": "mo\ndel",
        "not UTF-8": "mo\udcffdel",
        "blanks and quotes": " m'o\"d ",
    }.items():
        made += model_case(
            f"a sound folder, named with {what}",
            named(name),
            Either(predicts_as_usual, ("model_name_or_path",)) if "UTF-8" in what else Accepted(predicts_as_usual),
            train=Either(trains, ("model_name_or_path",)) if "UTF-8" in what else Accepted(trains),
            given=name,
        )
    made += model_case(
        "model_revision garbage",
        lambda folder: None,
        Either(predicts_as_usual, ("model_revision",)),
        model_revision="[/] no",
    )
    heads = {"AutoModelForQuestionAnswering": "code.Code"}
    made += model_case("code in the config", code(auto_map={"AutoConfig": "code.Code"}, model_type="own"))
    made += model_case("code in the head", code(auto_map=heads), Either(predicts_as_usual, (FOLDER,)))
    made += model_case(
        "code in another repository", code(auto_map={"AutoConfig": "nobody/none--code.Code"}, model_type="own")
    )
    made += model_case("code for generation", code(custom_generate="code.py"), Accepted(predicts_as_usual))
    return made


def cases() -> list[Case]:
    return tokenizers() + folders()
