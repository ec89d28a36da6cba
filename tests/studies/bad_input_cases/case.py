"""What a bad input is: how it is made in a fresh folder, the command that gets it, and what is expected of that command."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toy import WINDOWS, flags

from bad_input_cases.base import Base

PAYLOAD = "PWNED"
"""A file of this name in a case's folder shows that code out of an input ran."""


@dataclass(frozen=True)
class Run:
    """One start of a command."""

    command: str
    """Name of a file of scripts/, or `reader`."""
    words: list[str]
    file_size: int | None = None
    """Bytes after which a write into a file fails, as on a disk that is full."""


@dataclass(frozen=True)
class Place:
    """The folder of one case, and the words of the commands that run in it."""

    folder: Path
    base: Base

    @property
    def output(self) -> Path:
        return self.folder / "output"

    @property
    def cache(self) -> Path:
        """Folder of prepared data that belongs to this case alone."""
        return self.folder / "cache"

    def path(self, name: str) -> Path:
        return self.folder / name

    def prepare(self, *words: str, **settings: Any) -> Run:
        """Data only: what training reads, tokenizes and audits."""
        usual = dict(model_name_or_path=self.base.toy.model, cache_dir=self.cache, output_dir=self.output)
        return Run("prepare", given(usual | WINDOWS, settings) + list(words))

    def train(self, *words: str, **settings: Any) -> Run:
        """Two steps on the toy, whose windows are in a cache that all cases share."""
        return Run("train", given(self.base.training(output_dir=self.output), settings) + list(words))

    def predict(self, *words: str, **settings: Any) -> Run:
        usual = dict(model_name_or_path=self.base.toy.model, test_file=self.base.toy.dev, output_dir=self.output)
        usual |= dict(cache_dir=self.base.cache, per_device_eval_batch_size=8, n_best_size=4)
        return Run("predict", given(usual | WINDOWS, settings) + list(words))

    def score(self, *words: str, **settings: Any) -> Run:
        usual = dict(validation_file=self.base.toy.dev, predictions_file=self.base.predictions / "predictions.json")
        return Run("score", given(usual, settings) + list(words))

    def resume(self, *words: str, **settings: Any) -> Run:
        """The start that goes on with the interrupted run, which a case has copied into its output folder."""
        return Run("train", given(self.base.interrupted_training(self.output), settings) + list(words))

    def copy(self, source: Path, name: str) -> Path:
        return Path(shutil.copytree(source, self.folder / name))


def given(usual: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """Flags; a setting of None is left out."""
    return flags(**{name: value for name, value in (usual | settings).items() if value is not None})


Check = Callable[[Place, str], str | None]
"""A case's folder and what the command printed -> what is wrong with the result, or None."""


@dataclass(frozen=True)
class Refused:
    """Exit code 2 and one message that holds these words: the flag, the file, the row."""

    words: tuple[str, ...]

    def __init__(self, *words: str):
        object.__setattr__(self, "words", words)


@dataclass(frozen=True)
class Accepted:
    """Exit code 0 and a right result."""

    check: Check = lambda place, output: None


@dataclass(frozen=True)
class Either:
    """Read rightly or refused clearly: users are served by both."""

    check: Check
    words: tuple[str, ...]


Expected = Refused | Accepted | Either


@dataclass(frozen=True)
class Case:
    group: str
    name: str
    make: Callable[[Place], Run] = field(repr=False)
    expected: Expected = field(repr=False)
    seconds: float = 15.0
    """Within which the command must end, on the machine that limits were chosen on (speed.py)."""

    @property
    def title(self) -> str:
        return f"{self.group}/{self.name}"


# --- checks of accepted inputs


def both(*checks: Check) -> Check:
    def check(place: Place, output: str) -> str | None:
        return next((wrong for one in checks if (wrong := one(place, output)) is not None), None)

    return check


def says(*words: str) -> Check:
    """Something that the user must be informed of, although the run goes on."""

    def check(place: Place, output: str) -> str | None:
        missing = [word for word in words if squeezed(word) not in squeezed(output)]
        return f"the output does not mention {', '.join(missing)}" if missing else None

    return check


def report_has(split: str = "train", **expected: Any) -> Check:
    """Counts of data_report.json; of a list its length."""

    def check(place: Place, output: str) -> str | None:
        report = json.loads((place.output / "data_report.json").read_text(encoding="utf-8"))[split]
        found = report["questions"] | (report["windows"] or {})
        found = {name: len(value) if isinstance(value, list) else value for name, value in found.items()}
        wrong = [
            f"{name} {found.get(name)} in place of {value}"
            for name, value in expected.items()
            if found.get(name) != value
        ]
        return ", ".join(wrong) or None

    return check


def scores_are(**expected: float) -> Check:
    """Figures that score prints."""

    def check(place: Place, output: str) -> str | None:
        try:
            found = json.loads(output[output.index("{") : output.rindex("}") + 1])
        except ValueError:
            return "no figures were printed"
        wrong = [
            f"{name} {found.get(name)} in place of {value}"
            for name, value in expected.items()
            if found.get(name) != value
        ]
        return ", ".join(wrong) or None

    return check


def predicts(*ids: str) -> Check:
    """The ids of predictions.json."""

    def check(place: Place, output: str) -> str | None:
        found = json.loads((place.output / "predictions.json").read_text(encoding="utf-8"))
        return None if list(found) == list(ids) else f"predictions for {list(found)[:5]} in place of {list(ids)[:5]}"

    return check


def predicts_as_usual(place: Place, output: str) -> str | None:
    """The toy's predictions are those of an undisturbed run, to the byte."""
    names = ("predictions.json", "nbest_predictions.json", "null_odds.json")
    found = [
        name for name in names if (place.output / name).read_bytes() != (place.base.predictions / name).read_bytes()
    ]
    return f"other {', '.join(found)} than with sound files" if found else None


def ends_as_usual(place: Place, output: str) -> str | None:
    """A resumed run ends, to the byte, as one that was never interrupted: the best model, and the state of the last step."""
    names = ("predictions.json", "nbest_predictions.json", "null_odds.json", "model.safetensors")
    names += ("checkpoint-8/model.safetensors",)
    found = [name for name in names if (place.output / name).read_bytes() != (place.base.whole / name).read_bytes()]
    return f"other {', '.join(found)} than of a run without interruption" if found else None


def trains(place: Place, output: str) -> str | None:
    """A finished run is in the output folder."""
    return None if (place.output / "all_results.json").is_file() else "no all_results.json"


def anything(place: Place, output: str) -> str | None:
    return None


def squeezed(text: str) -> str:
    """Without blanks and boxes, which wrapped lines put anywhere."""
    return "".join(character for character in text if not character.isspace() and character not in "│╭╮╰╯─")
