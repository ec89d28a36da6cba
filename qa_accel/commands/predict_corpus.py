"""`predict --shard_output`: any number of processes fill a folder with the answers to a corpus, piece by piece."""

import contextlib
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import accelerate
import pyarrow
import tokenizers
import torch
import transformers
from accelerate import Accelerator
from rich.console import Console
from rich.progress import Progress

import qa_accel
from qa_accel import files
from qa_accel.batching.settings import BatchingConfig
from qa_accel.commands.answering import load_task, make_accelerator, prepare_model
from qa_accel.commands.settings.predict import CorpusConfig
from qa_accel.data import corpus_pieces, corpus_rows, passages
from qa_accel.data.questions import cache_folder
from qa_accel.data.settings import DataConfig, WindowConfig
from qa_accel.data.windows import Windows
from qa_accel.distributed import accelerator as runtime
from qa_accel.distributed import signals, strategy
from qa_accel.distributed.ranks import Rank, leave_launch
from qa_accel.distributed.run_folder import open_shared
from qa_accel.distributed.settings import RuntimeConfig
from qa_accel.inference import corpus
from qa_accel.inference.answer_files import ANSWER_FILES
from qa_accel.inference.answer_policy import ANSWER_SCORE_KEY, AnswerPolicy
from qa_accel.inference.confidence import Calibration
from qa_accel.inference.corpus import Done
from qa_accel.inference.corpus_folder import CorpusFolder, Identity, named_pieces
from qa_accel.inference.corpus_progress import CorpusProgress
from qa_accel.inference.corpus_worker import Work
from qa_accel.inference.onnx_session import OnnxSession
from qa_accel.inference.postprocess import Candidates
from qa_accel.inference.predictor import predict_windows
from qa_accel.inference.qa_model import QAModel
from qa_accel.inference.settings import Backend, PredictorConfig, SpanConfig
from qa_accel.models.settings import ModelConfig
from qa_accel.run_layout import FINISHED
from qa_accel.terminal import make_console, visible

SECONDS_ON_A_TERMINAL = 2
SECONDS_BETWEEN_LINES = 30


class Stopped(Exception):
    """A signal has come: its name."""


def predict_corpus(
    settings: CorpusConfig,
    *,
    backend: Backend,
    model: ModelConfig,
    output_dir: str,
    min_confidence: float | None,
    data: DataConfig,
    windows: WindowConfig,
    prediction: PredictorConfig,
    spans: SpanConfig,
    batching: BatchingConfig,
    runtime_config: RuntimeConfig,
    calibration_of: Callable[[AnswerPolicy, bool], Calibration | None],
) -> int:
    """The exit code. `calibration_of`: policy and whether questions may have no answer -> the calibration, or a refusal."""
    _refuse_what_needs_all_questions(data)
    signals.listen(signals.STOP_SIGNALS)
    rank = leave_launch()
    accelerator = make_accelerator(backend, runtime_config)
    console = make_console(quiet=not rank.speaks, soft_wrap=True)
    task = load_task(backend, accelerator, model, windows, batching)
    negative = data.version_2_with_negative is not False
    calibration = calibration_of(task.answer_policy, negative)
    spans = task.answer_policy.apply(spans)

    files_of_corpus = corpus_pieces.corpus_files(data.test_file or (), "test_file")
    pieces = corpus_pieces.pieces(
        files_of_corpus, _columns(data, settings), max(1, round(settings.piece_megabytes * 1e6))
    )
    folder_path = open_shared(output_dir, (*ANSWER_FILES, FINISHED))
    marker = folder_path / f"stopped-{os.environ.get('SLURM_JOB_ID', 'here')}.json"
    files.remove(marker)
    try:
        table, passage_files = None, []
        if settings.passages_file:
            table, passage_files = passages.passage_table(
                settings.passages_file, "passages_file", cache_folder(data), _stop_if_signalled
            )
        qa = task.load_model(trained=True)
        batch_size = prediction.batch_size(accelerator.device.type, backend)
        settings_of_answers = {
            **asdict(windows),
            **{name: value for name, value in asdict(spans).items() if name != ANSWER_SCORE_KEY},
            "version_2_with_negative": negative,
            "min_confidence": min_confidence,
            "columns": list(data.columns[:3]),
            "passages_file": [[str(file.path), file.size, file.changed] for file in passage_files],
            "shard_nbest": settings.shard_nbest,
            "piece_megabytes": settings.piece_megabytes,
            "precision": strategy.precision(accelerator),
            "dtype": model.dtype,
            "graph": None if task.exported is None else f"{task.exported.facts.precision}, {task.exported.runtime}",
            "batching": "packed" if task.mode.packed else "padded",
            "attention": task.mode.attention,
            "per_device_eval_batch_size": batch_size,
            "device": accelerator.device.type,
            "tokenizers": tokenizers.__version__,
        }
        # JSON knows no infinity, which a threshold may be
        shown = {
            name: str(value) if value in (math.inf, -math.inf) else value for name, value in settings_of_answers.items()
        }
        identity = Identity(model_hash(qa, task.tokenizer), shown)
        folder = CorpusFolder(folder_path, named_pieces(pieces, identity), identity, files_of_corpus)
        there = len(folder.done())
        runtime.announce(
            console,
            runs=f"rank 1 of {rank.count} without a process group, {runtime.describe(accelerator)}",
            model=model.model_name_or_path,
            corpus=f"{corpus_pieces.described(files_of_corpus)}, {len(pieces):,} pieces, {there:,} of them done",
            no_answer=f"where null odds > {spans.null_score_diff_threshold:.4g}" if negative else "never (SQuAD v1.1)",
        )
        work = Work(
            folder=folder_path,
            columns=data.columns,
            tokenizer=task.tokenizer,
            windows=windows,
            spans=spans,
            version_2_with_negative=negative,
            calibration=calibration,
            min_confidence=min_confidence,
            nbest=settings.shard_nbest,
            passages=table,
        )
        workers = data.preprocessing_num_workers or corpus.default_workers(rank, accelerator.device.type)
        done = _answer(folder, rank, work, accelerator, qa, batch_size, console, workers)
        _report(console, folder, done, accelerator)
    except Stopped as stopped:
        files.write_json(marker, {"reason": str(stopped), "rank": rank.number})
        console.print(f"stopped by {stopped}: pieces in work are dropped; the same command computes what is missing")
        return rank.exit_code
    return 0


def _stop_if_signalled() -> None:
    if signals.received():
        raise Stopped(signals.received())


def model_hash(qa: QAModel, tokenizer: Any) -> str:
    """Of weights, config and tokenizer, wherever they came from; an adapter that was merged in counts."""
    digest = hashlib.blake2b(digest_size=16)
    settings = qa.inputs.config.to_dict()
    for name in ("_name_or_path", "transformers_version"):
        settings.pop(name, None)
    core = json.loads(tokenizer.backend_tokenizer.to_str())
    core["truncation"] = core["padding"] = None  # left by the last call
    digest.update(json.dumps([settings, core], sort_keys=True, default=str).encode())
    if isinstance(qa.model, OnnxSession):
        for path in qa.model.files:
            digest.update(path.read_bytes())
        return digest.hexdigest()
    for name, weight in sorted(qa.model.state_dict().items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _answer(
    folder: CorpusFolder,
    rank: Rank,
    work: Work,
    accelerator: Accelerator,
    qa: QAModel,
    batch_size: int,
    console: Console,
    workers: int,
) -> Done:
    """Raises Stopped at the next batch after a signal."""
    prepared: list[Any] = []  # put on the device when there is something to compute: all may be done
    with _shown(folder, console) as show:
        computed = 0

        def check(batches: int = 0) -> None:
            _stop_if_signalled()
            show(computed)

        def compute(windows: Windows) -> Candidates:
            nonlocal computed
            if not prepared:
                prepared.append(prepare_model(accelerator, qa))
            plan, collate = qa.evaluation_batches(windows, batch_size)
            found = predict_windows(accelerator, prepared[0], collate, plan, work.spans, check)
            assert found is not None, "without a process group every rank is a first one"
            computed += len(windows)
            return found

        return corpus.answer_pieces(folder, rank, work, compute, lambda done: check(), workers=workers)


@contextlib.contextmanager
def _shown(folder: CorpusFolder, console: Console) -> Iterator[Callable[[int], None]]:
    """A function that shows how far all ranks are, given the windows of this one: often on a terminal, else in lines."""
    if console.quiet:
        yield lambda own_windows: None
        return
    progress = CorpusProgress(folder)
    seconds = SECONDS_ON_A_TERMINAL if console.is_terminal else SECONDS_BETWEEN_LINES
    last = time.monotonic()
    with Progress(*Progress.get_default_columns()[:2], console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("predicting", total=1.0)

        def show(own_windows: int) -> None:
            nonlocal last
            if time.monotonic() - last < seconds:
                return
            last = time.monotonic()
            line = progress.line(own_windows)
            if console.is_terminal:
                bar.update(task, completed=progress.share, description=line)
            else:
                console.print(line)

        yield show


def _report(console: Console, folder: CorpusFolder, done: Done, accelerator: Accelerator) -> None:
    own = f"{done.pieces:,} pieces, {done.questions:,} questions, {done.windows:,} windows by this process"
    if done.seconds > 0:
        rate, busy = done.windows / done.seconds, done.computing / done.seconds
        own += f", {rate:,.0f} windows/s, in the model {100 * busy:.0f} % of the time"
    versions = {
        "qa_accel": qa_accel.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "accelerate": accelerate.__version__,
        "pyarrow": pyarrow.__version__,
        "device": runtime.describe(accelerator),
    }
    manifest = folder.finish(versions, _stop_if_signalled)
    if manifest is None:
        console.print(f"{own}; other processes still compute the rest (if none does, start the same command again)")
        return
    console.print(
        f"all {len(folder.pieces):,} pieces are done ({own}): {manifest['questions']:,} questions, "
        f"{manifest['windows']:,} windows, {manifest['answered']:,} answered"
    )
    console.print(f"answers: {visible(folder.path / '*.parquet')}, {visible(files.MANIFEST)}")


def _columns(data: DataConfig, settings: CorpusConfig) -> dict[str, str]:
    """Columns that each file must have, and the flag that names each."""
    columns = {data.id_column: "id_column", data.question_column: "question_column"}
    return columns | (
        {corpus_rows.CONTEXT_ID: "passages_file"} if settings.passages_file else {data.context_column: "context_column"}
    )


def _refuse_what_needs_all_questions(data: DataConfig) -> None:
    if data.test_file is None:
        raise ValueError("--shard_output: give --test_file, paths or globs of Parquet or JSON lines")
    if data.answers == "all":
        raise ValueError(
            "--answers all is not supported with --shard_output, whose pieces have one answer per question"
        )
    for name in ("max_predict_samples", "dataset_name"):
        if getattr(data, name) is not None:
            raise ValueError(
                f"--{name} is not supported with --shard_output, which reads no file as a whole: name the files by --test_file"
            )
