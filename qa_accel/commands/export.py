"""Export a fine-tuned model as a graph that onnxruntime computes on a CPU, in fp32 or with 8 bits."""

import copy
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from rich.console import Console

import qa_accel
from qa_accel import files
from qa_accel.batching.settings import BatchingConfig
from qa_accel.commands.answering import Prepared, answers_of, prepare
from qa_accel.commands.settings.export import ExportConfig
from qa_accel.data import splits
from qa_accel.data.windows import Windows
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import run_folder
from qa_accel.evaluation import scoring
from qa_accel.inference import onnx_export, quantization
from qa_accel.inference.answer_policy import AnswerPolicy
from qa_accel.inference.onnx_export import TOLERANCE, NotExported
from qa_accel.inference.onnx_session import METADATA, MODEL, GraphFacts, OnnxSession
from qa_accel.inference.postprocess import Answers
from qa_accel.inference.qa_model import QAModel, load_task
from qa_accel.inference.settings import SpanConfig
from qa_accel.models import model_folder, plain_tokenizer
from qa_accel.terminal import visible

FIGURES = "export.json"
F1_LOSS = 0.5
"""Points of F1, of 100, that an int8 graph may lose."""
COMPARED = 64
"""Windows of the validation file whose logits are compared."""
LONGEST = 512
"""Tokens of the longest compared window, where the model takes as many."""
MEASURED = 128
"""Windows on which ranges of activations are measured for int8."""
PAIRS = (
    ("Who?", "It was Ann Müller in 1862."),
    ("", " "),
    ("a b", "don't  東京 [SEP] </s> \U0001f468\u200d\U0001f469"),
)
"""Texts for which the exported tokenizer must do what the model's does."""


Config = ExportConfig


def run(settings: ExportConfig) -> None:
    """Export, compare, write. Raises ValueError, with the figures, for a graph that is not good enough."""
    accelerator = runtime.make_accelerator(settings.runtime, cpu=True, mixed_precision="no")
    if accelerator.num_processes > 1:
        raise ValueError("an export is made by one process: start it with python, not with a launcher for several")
    console = runtime.console(accelerator)
    output = _output_folder(settings)
    task = load_task(settings.model, settings.windows, BatchingConfig(batching="padded"), device="cpu", precision="no")
    name = settings.model.model_name_or_path
    onnx_export.check_exportable(task.config, name)
    spans = task.answer_policy.apply(settings.spans)
    dev = None
    if settings.data.validation_file or settings.data.dataset_name:
        dev = prepare(
            accelerator, console, task, "validation", data=settings.data, windows=settings.windows, spans=spans
        )
        if "answers" not in dev.split.questions.column_names:
            raise ValueError("--validation_file has no gold answers, without which there is no F1 to compare")
        if (
            settings.int8
            and task.answer_policy.null_score_diff_threshold is not None
            and not dev.version_2_with_negative
        ):
            raise ValueError(
                f"--int8: {name!r} has a no-answer threshold, and every question of --validation_file has an answer: give one with "
                "questions without any, on which the threshold is tuned again"
            )
    qa = task.load_model(trained=True)
    qa.model.eval()
    with files.replacing_folder(output) as partial:
        export = _Export(settings, accelerator, console, qa, spans, dev, partial)
        policy, figures = export.int8() if settings.int8 else export.float32()
        _write_beside(partial, qa, policy, figures | _origin(name, partial))
        files.apply_umask(partial)
    for line in _summary(figures):
        console.print(line)
    console.print(f"graph: {visible(output / MODEL)}, figures: {visible(output / FIGURES)}")


@dataclass(frozen=True)
class _Export:
    """One model on its way into `folder`."""

    settings: ExportConfig
    accelerator: Accelerator
    console: Console
    qa: QAModel
    spans: SpanConfig
    dev: Prepared | None
    folder: Path

    @property
    def name(self) -> str:
        return self.settings.model.model_name_or_path

    def float32(self) -> tuple[AnswerPolicy, dict[str, Any]]:
        """The policy is the model's, since the answers are. With a validation file, the figures of both are given."""
        session, figures = self._graph(self.folder / MODEL)
        if self.dev is not None:
            torchs, onnxs = self._answers(self.qa, "torch"), self._answers(self.qa.with_model(session), "onnx")
            figures |= self._compared(torchs, {"onnx_float32": onnxs})
        return self.qa.answer_policy, figures

    def int8(self) -> tuple[AnswerPolicy, dict[str, Any]]:
        """The graph in fp32 is a step on the way, and must be right. Threshold and calibration belong to the logits: what the
        model has of them is fitted again."""
        assert self.dev is not None, "checked with the settings"
        whole = self.folder / "float32.onnx"
        session, figures = self._graph(whole)
        measured = onnx_export.chosen_batches(self.qa, self._windows_to_measure(), MEASURED)
        figures["int8"] = quantization.quantize(whole, self.folder / MODEL, [batch.inputs for batch in measured])
        facts = GraphFacts(session.facts.model_type, "int8", session.facts.padding)
        _set_facts(self.folder / MODEL, facts)
        quantized = OnnxSession(self.folder / MODEL, torch.get_num_threads())
        torchs, whole_answers = self._answers(self.qa, "torch"), self._answers(self.qa.with_model(session), "onnx fp32")
        answers = self._answers(self.qa.with_model(quantized), "onnx int8")
        figures |= self._compared(torchs, {"onnx_float32": whole_answers, "onnx_int8": answers})
        figures["nodes"] = onnx_export.node_counts(self.folder / MODEL)
        del session
        for path in self.folder.glob("float32.onnx*"):
            path.unlink()
        loss = figures["scores"]["torch_float32"]["f1"] - figures["scores"]["onnx_int8"]["f1"]
        if loss > F1_LOSS:
            raise NotExported(
                f"{self.name!r} loses {loss:.2f} F1 with 8 bits, more than {F1_LOSS}, on {figures['questions']:,} questions: "
                f"{_in_words(figures)}. Nothing was written; export it without --int8, or give more questions"
            )
        policy, fitted = self._policy(answers)
        return policy, figures | fitted

    def _graph(self, path: Path) -> tuple[OnnxSession, dict[str, Any]]:
        """The graph in fp32, written to `path`, and how it compares. Raises NotExported if it computes something else."""
        self.console.print("exporting, which takes some seconds for each layer of a large model")
        graph = onnx_export.export(self.qa, path, self.name)
        session, positions = graph.session, graph.session.facts.padding.max_length
        # as long as anybody may ask for later, since parts of a model may depend on the length
        longest = max(self.settings.windows.max_seq_length, min(positions or LONGEST, LONGEST))
        compared = [*onnx_export.varied_batches(self.qa, longest)]
        if self.dev is not None:
            compared += onnx_export.chosen_batches(self.qa, self.dev.split.windows, COMPARED)
        model = f"{self.name!r} is of the type {session.facts.model_type}"
        try:
            worst = onnx_export.largest_difference(self.qa, session, compared)
        except NotExported as error:
            raise NotExported(f"{model}, which cannot be exported: {error}") from error
        windows = sum(len(batch.index_B) for batch in compared)
        if not worst <= TOLERANCE:
            raise NotExported(
                f"{model}, whose graph gives other logits than torch: they differ by "
                f"up to {worst:.2g} in {windows} windows of up to {longest} tokens, {TOLERANCE:.0e} is allowed. Nothing was written"
            )
        logits = {"largest_difference": worst, "allowed": TOLERANCE, "windows": windows, "longest_window": longest}
        return session, {"logits": logits, "nodes": graph.nodes}

    def _windows_to_measure(self) -> Windows:
        """Of the training questions if they are given, so that no window is measured and judged, else the judged ones."""
        assert self.dev is not None, "checked with the settings"
        data, windows = self.settings.data, self.settings.windows
        if not data.train_file:
            return self.dev.split.windows
        return splits.prepare_split(data, windows, self.qa.tokenizer, "train").windows

    def _answers(self, qa: QAModel, what: str) -> Answers:
        assert self.dev is not None, "asked only with a validation file"
        found = answers_of(
            self.accelerator,
            self.console,
            qa,
            self.dev,
            prediction=self.settings.prediction,
            spans=self.spans,
            what=what,
        )
        assert found is not None, "one process"
        return found

    def _compared(self, torchs: Answers, others: dict[str, Answers]) -> dict[str, Any]:
        """Scores of all, at the model's own threshold, and what part of the answers equal torch's."""
        assert self.dev is not None, "asked only with a validation file"
        threshold = self.spans.null_score_diff_threshold or 0.0
        scores = {}
        for name, answers in {"torch_float32": torchs, **others}.items():
            found = scoring.scores_of(
                answers, self.dev.split, threshold, version_2_with_negative=self.dev.version_2_with_negative
            )
            scores[name] = {"exact": found["exact"], "f1": found["f1"]}
        equal = {
            name: float(np.mean([answers.predictions[key] == text for key, text in torchs.predictions.items()]))
            for name, answers in others.items()
        }
        return {"questions": len(torchs.predictions), "scores": scores, "equal_answers": equal}

    def _policy(self, answers: Answers) -> tuple[AnswerPolicy, dict[str, Any]]:
        """Threshold and calibration for these answers, as far as the model has one, and the calibration's figures."""
        assert self.dev is not None, "asked only with a validation file"
        stored, split = self.qa.answer_policy, self.dev.split
        negative = self.dev.version_2_with_negative
        scores = scoring.scores_of(answers, split, 0.0, version_2_with_negative=negative)
        tuned, found = scoring.tuned_policy(answers, scores, split, version_2_with_negative=negative)
        if stored.null_score_diff_threshold is not None and tuned.null_score_diff_threshold is None:
            raise NotExported(
                f"{self.name!r} has a no-answer threshold, and --validation_file gives none for its logits of 8 bits: "
                "give one that has questions with an answer and without"
            )
        policy = stored.with_calibration(None)
        if stored.null_score_diff_threshold is not None and tuned.null_score_diff_threshold is not None:
            policy = replace(policy, null_score_diff_threshold=tuned.null_score_diff_threshold)
        fitted: dict[str, Any] = {"null_score_diff_threshold": policy.null_score_diff_threshold}
        if stored.temperature is None:
            return policy, fitted
        if "not_calibrated" in found:
            self.console.print(f"not calibrated any more: {found['not_calibrated']}")
        calibration = tuned.calibration(version_2_with_negative=negative)
        return policy.with_calibration(calibration), fitted | {"calibration": found}


def _output_folder(settings: ExportConfig) -> Path:
    """Where the export goes. Raises ValueError if something else is there, OSError if nothing can be written there."""
    output = Path(settings.output_dir)
    if not output.name or output.is_symlink():
        raise ValueError(f"--output_dir {settings.output_dir}: expected the name of a folder, not a link or a root")
    if os.path.lexists(output):
        former = (output / FIGURES).is_file() and (output / MODEL).is_file()
        if not output.is_dir() or (any(output.iterdir()) and not former):
            raise ValueError(
                f"--output_dir {output} is not empty and not a former export (it has no {FIGURES}), and would be replaced; take "
                "another folder"
            )
    model_folder.check_name(settings.model.model_name_or_path)
    if output.resolve() == Path(settings.model.model_name_or_path).resolve():
        raise ValueError(f"--output_dir {output} is the model's own folder; take another one")
    run_folder.make_writable(output.absolute().parent)
    return output


def _set_facts(path: Path, facts: GraphFacts) -> None:
    import onnx

    model = onnx.load(path, load_external_data=False)
    onnx.helper.set_model_props(model, {METADATA: facts.as_json()})
    onnx.save(model, path)


def _write_beside(folder: Path, qa: QAModel, policy: AnswerPolicy, figures: dict[str, Any]) -> None:
    """Tokenizer, config and figures. Raises NotExported if the tokenizer does not survive being written."""
    plain_tokenizer.plain(qa.tokenizer).save_pretrained(folder)
    found = plain_tokenizer.difference(plain_tokenizer.load(str(folder)), qa.tokenizer, list(PAIRS))
    if found is not None:
        raise NotExported(f"the tokenizer is another one after it was written: {found}")
    config = copy.deepcopy(qa.inputs.config)
    policy.store(config)
    config.save_pretrained(folder)
    files.write_json(folder / FIGURES, figures)


def _origin(name: str, folder: Path) -> dict[str, Any]:
    """Where the graph comes from and what it was made with."""
    import onnx
    import onnxruntime
    import onnxscript
    import transformers

    packages = (torch, transformers, onnx, onnxscript, onnxruntime)
    capabilities = torch.cpu.get_capabilities()
    return {
        "model": name,
        "bytes": sum(path.stat().st_size for path in folder.glob(f"{MODEL}*")),
        "versions": {"qa_accel": qa_accel.__version__, **{each.__name__: each.__version__ for each in packages}},
        "processor": sorted(key for key, value in capabilities.items() if value is True),
    }


def _in_words(figures: dict[str, Any]) -> str:
    scores = "; ".join(f"{name} exact {s['exact']:.2f}, F1 {s['f1']:.2f}" for name, s in figures["scores"].items())
    equal = ", ".join(f"{name} {100 * share:.1f} %" for name, share in figures["equal_answers"].items())
    return f"{scores}; answers equal to torch's: {equal}"


def _summary(figures: dict[str, Any]) -> list[str]:
    logits = figures["logits"]
    lines = [f"logits: differ from torch's by up to {logits['largest_difference']:.1e} in {logits['windows']} windows"]
    return lines + ([f"{figures['questions']:,} questions: {_in_words(figures)}"] if "scores" in figures else [])
