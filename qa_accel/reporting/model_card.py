"""Scores, settings and counts of a run -> README.md of its model: metadata for the hub, and text for a person.

The metadata is that of `ModelCardData`: the hub reads `model-index` for a model's page, with the data, the threshold and the
command of each figure. Of local files and folders the card shows names, never where they are.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

from qa_accel import config, shell_words
from qa_accel.batching.settings import BatchingConfig
from qa_accel.data.named_sets import name_and_path
from qa_accel.data.settings import DataConfig, WindowConfig
from qa_accel.evaluation.score_tables import CONFIDENCE, SCORES
from qa_accel.hub import PLACEHOLDER, is_hub_id
from qa_accel.inference.answer_policy import THRESHOLD_KEY
from qa_accel.inference.settings import SpanConfig
from qa_accel.reporting.local_places import FILES, NOT_REPEATED, last_part, public, without_place
from qa_accel.terminal import visible

SELECTION = ("max_eval_samples", "validation_shuffle_seed", "validation_num_shards", "validation_shard")
EVALUATION = {
    *("validation_file", "trust_remote_code", "dtype"),
    *(name for name in config.setting_types(DataConfig) if not re.search("train|test|predict", name)),
    *config.setting_types(WindowConfig),
    *config.setting_types(BatchingConfig),
    *config.setting_types(SpanConfig),
} - NOT_REPEATED
"""Settings of a training run that scripts/predict.py needs to answer the same questions in the same way."""


@dataclass(frozen=True)
class CardOfRun:
    """What a card tells of a run. Nothing in it is escaped yet."""

    settings: Mapping[str, Any]
    """Flat, of the whole run."""
    changed: Mapping[str, Any]
    """Those that differ from their defaults."""
    launch: str
    """The start of the line that trains again, up to the script's flags."""
    where: str
    """Processes, device and precision, in words."""
    data_report: Mapping[str, Any]
    """As data_report.json."""
    scores: Mapping[str, Any] | None
    """As all_results.json; None: not evaluated."""
    stored_threshold: float | None = None
    """That of config.json; None: never tuned."""

    def text(self) -> str:
        """README.md."""
        sections = [self._head(), self._scores(), self._repeat(), self._data(), self._settings(), USE]
        return (
            "\n".join(["---", self.metadata().to_yaml(), "---", *("\n".join(["", *part]) for part in sections)]) + "\n"
        )

    # --- metadata

    def metadata(self) -> ModelCardData:
        base = self.settings["model_name_or_path"]
        is_adapter = self.settings.get("lora_r") and not self.settings.get("merge_lora")
        return ModelCardData(
            pipeline_tag="question-answering",
            library_name="peft" if is_adapter else "transformers",
            tags=["extractive-qa", "qa-accel"],
            base_model=base if is_hub_id(base) else None,
            datasets=[self.settings["dataset_name"]] if self._is_on_hub else None,
            metrics=["exact_match", "f1"] if self.scores else None,
            model_name=_name(self.settings["output_dir"]) if self.scores else None,
            eval_results=self.eval_results() if self.scores else None,
        )

    def eval_results(self) -> list[EvalResult]:
        """Exact match and F1 at the threshold of the evaluation, and F1 at the tuned one, in percent."""
        assert self.scores is not None, "a run without scores has no results"
        results = [
            self._result("exact_match", "Exact match", self.scores["exact"], self._threshold),
            self._result("f1", "F1", self.scores["f1"], self._threshold),
        ]
        if self._tuned is not None:
            results.append(self._result("f1", "F1", self.scores["best_f1"], self._tuned, ", tuned on this data"))
        return results

    def _result(self, metric: str, name: str, value: float, threshold: Any, note: str = "") -> EvalResult:
        place = self._validation_data()
        return EvalResult(
            task_type="question-answering",
            task_name="Extractive question answering",
            dataset_type=place if self._is_on_hub else re.sub(r"[^\w.-]+", "-", f"local-{place}", flags=re.ASCII),
            dataset_name=self._described_data(),
            dataset_config=self.settings.get("dataset_config_name") if self._uses_data_set else None,
            dataset_split="validation",
            dataset_args={name: self.changed[name] for name in SELECTION if name in self.changed} or None,
            metric_type=metric,
            metric_name=name if threshold is None else f"{name} (no-answer threshold {_number(threshold)}{note})",
            metric_value=value,
            metric_args=({} if threshold is None else {THRESHOLD_KEY: threshold})
            | {key: value for key, value in (self.scores or {}).items() if key == "answer_language"}
            | {"command": self.evaluation_command(threshold)},
        )

    @property
    def _uses_data_set(self) -> bool:
        return not any(self.settings.get(name) for name in FILES)

    @property
    def _threshold(self) -> Any:
        """That of `exact` and `f1`; None where every question has an answer."""
        return (self.scores or {}).get(THRESHOLD_KEY)

    @property
    def _tuned(self) -> float | None:
        """The stored threshold, where it has a score of its own."""
        scores = self.scores or {}
        stored = self.stored_threshold
        return stored if stored == scores.get("best_f1_thresh") and stored != scores.get(THRESHOLD_KEY) else None

    @property
    def _is_on_hub(self) -> bool:
        name = self.settings.get("dataset_name")
        return self._uses_data_set and name is not None and is_hub_id(name)

    def _validation_data(self) -> str:
        """A hub id, or the name of the first file or folder."""
        if self._is_on_hub:
            return self.settings["dataset_name"]
        return _name(self.settings["dataset_name"] if self._uses_data_set else self.settings["validation_file"][0])

    def _described_data(self) -> str:
        if self._uses_data_set:
            return self._validation_data() + ("" if self._is_on_hub else " (a local data set)")
        more = len(self.settings["validation_file"]) - 1
        return f"{self._validation_data()} ({f'and {more} more files' if more else 'a local file'})"

    # --- commands

    def training_command(self) -> str:
        """The line that trains such a model again, with the settings that differ from the defaults."""
        return _lines(self.launch, shell_words.flags(self._public(set(self.changed) - NOT_REPEATED)))

    def evaluation_command(self, threshold: Any, separator: str = " ") -> str:
        """The line that prints `exact` and `f1` at this threshold; None where every question has an answer."""
        settings = self._public(EVALUATION & set(self.changed))
        if threshold is not None:
            settings |= {"version_2_with_negative": True, THRESHOLD_KEY: threshold}
        start = f"python scripts/predict.py --model_name_or_path {PLACEHOLDER}"
        return _lines(start, shell_words.flags({**settings, "output_dir": "answers"}), separator)

    def _public(self, names: Sequence[str] | set[str]) -> dict[str, Any]:
        """Settings of these names as others may see them."""
        return public(self.settings, names)

    # --- text

    def _head(self) -> Iterator[str]:
        base = _markdown(without_place("model_name_or_path", self.settings["model_name_or_path"]))
        yield f"# {base}, fine-tuned for extractive question answering"
        yield ""
        yield f"Trained with qa-accel from {base} on {_markdown(self.where)}."
        kept, teachers = self.settings.get("keep_layers"), self.settings.get("teacher")
        if kept:
            yield f"Of the layers of {base}, counted from 0, it has {', '.join(map(str, kept))}, in this order."
        if teachers:
            names = ", ".join(_markdown(name) for name in without_place("teacher", teachers))
            how = f"temperature {self.settings['distill_temperature']:g}, weight {self.settings['distill_weight']:g}"
            yield f"Distilled from {names} ({how})."

    def _scores(self) -> Iterator[str]:
        yield from ("## Scores", "")
        scores = self.scores
        if scores is None:
            yield "Not evaluated: the run had no validation data."
            return
        yield from ("| score | % | no-answer threshold |", "| --- | ---: | ---: |")
        at_zero, best = ("exact_threshold_0", "f1_threshold_0"), ("best_exact", "best_f1")
        for key, name in SCORES.items():
            if key in scores:
                own = 0.0 if key in at_zero else scores.get(f"{key}_thresh") if key in best else self._threshold
                yield f"| {name} | {scores[key]:.2f} | {'' if own is None else _number(own)} |"
        for key, name in CONFIDENCE.items():
            if key in scores:
                own = self.stored_threshold
                yield f"| {name} | {100 * scores[key]:.2f} | {'' if own is None else _number(own)} |"
        yield ""
        yield f"On {scores['total']} validation questions ({_markdown(self._described_data())}), {self._definitions()}."
        if self.stored_threshold is not None:
            yield ""
            yield (
                f"`config.json` keeps `{THRESHOLD_KEY}: {_number(self.stored_threshold)}`, tuned for F1 on the validation data, so "
                "that scores at it are a little better than on other data: a question is answered with nothing where the null "
                "score exceeds the best span's by more than that."
            )
        if "confidence_questions" in scores:
            yield ""
            yield (
                "`config.json` keeps a calibration too, fitted on one half of the validation questions. The figures of confidence "
                f"are those of the other half, {scores['confidence_questions']} questions."
            )
        elif "not_calibrated" in scores:
            yield ""
            yield f"Without a calibration: {_markdown(scores['not_calibrated'])}."

    def _definitions(self) -> str:
        language = (self.scores or {}).get("answer_language")
        return (
            "by the official definitions"
            if language is None
            else f"with answers compared by the rules for `{language}`"
        )

    def _repeat(self) -> Iterator[str]:
        yield from ("## Repeat", "", "Train:", "", "```bash", self.training_command(), "```")
        if self.scores is None:
            return
        yield from ("", "Evaluate:", "", "```bash", self.evaluation_command(self._threshold, BREAK), "```", "")
        prints = f"It prints exact match {self.scores['exact']:.2f} and F1 {self.scores['f1']:.2f}"
        yield f"{prints}, but for rounding in another precision or on other hardware."
        if self._tuned is not None:
            yield f"Without `--{THRESHOLD_KEY}`, that of `config.json` applies: F1 {self.scores['best_f1']:.2f}."
        if self._uses_data_set:
            yield "Of a data set that has a split `test`, `predict.py` answers that: save `validation` as a file, and give it."

    def _data(self) -> Iterator[str]:
        splits = self.data_report
        yield from ("## Data", "", "| | " + " | ".join(splits) + " |", "| --- |" + " ---: |" * len(splits))
        for name, part, key in (
            ("questions", "questions", "questions"),
            ("contexts", "questions", "contexts"),
            ("without answer", "questions", "without_answer"),
            ("windows", "windows", "windows"),
        ):
            yield f"| {name} | " + " | ".join(f"{split[part][key]:,}" for split in splits.values()) + " |"

    def _settings(self) -> Iterator[str]:
        """A line of YAML each, which can therefore not end the code block that they are in."""
        yield from ("## Settings", "", "```yaml")
        for name, value in self._public(set(self.settings) - NOT_REPEATED).items():
            if value is not None:
                plain = [visible(one) for one in value] if isinstance(value, list) else value
                plain = visible(value) if isinstance(value, str) else plain
                listed = yaml.safe_dump([plain], default_flow_style=True, width=math.inf, allow_unicode=True)
                yield f"{name}: {listed.strip()[1:-1]}"
        yield "```"


BREAK = " \\\n    "
USE = [
    *("## Use", "", "```python", "from qa_accel import Reader", "", f'reader = Reader("{PLACEHOLDER}")'),
    *('reader.answer("Who wrote it?", "It was written by Ada.")', "```"),
]


def _lines(start: str, flags: Sequence[str], separator: str = BREAK) -> str:
    return separator.join([start, *flags])


def _name(path: str) -> str:
    """A file's or folder's name for metadata: one line, nothing hidden."""
    return visible(last_part(name_and_path(path)[1]))


def _number(threshold: Any) -> str:
    return f"{float(threshold):.6g}"


def _markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line: no link, no HTML, no formula."""
    return re.sub(r"[\\`*_\[\]<>&|~$]", r"\\\g<0>", visible(text))
