"""scripts/predict.py --shard_output on the toy: the answers of plain prediction, whoever computes them, and nothing twice."""

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers
from corpora import corpus_flags, pieces_in, rows_in, rows_of_plain, toy_rows, write_corpus, write_lines
from corpus_chaos import chaos
from launches import SCRIPTS, only_message
from processes import Left, run, script
from toy import WINDOWS, Toy, flags

from qa_accel import cli, files
from qa_accel.inference.answer_policy import AnswerPolicy
from qa_accel.inference.confidence import Calibration
from qa_accel.inference.corpus_folder import SECONDS_OF_A_PARTIAL

PREDICT = SCRIPTS / "predict.py"
COPIES = 4
LEAST = 0.36
"""A confidence that some of the toy's answers reach and others do not."""
VALUES = ("score", "null_odds", "confidence")
"""Columns whose last bits depend on which windows share a batch."""


def predict(words: list[str], **options: Any) -> list[Left]:
    left = run(script, PREDICT, words, **options)
    for one in left:
        assert one.code == 0, one.output
    return left


def answered(words: list[str], folder: Path, **options: Any) -> dict[str, bytes]:
    predict(words, **options)
    return pieces_in(folder)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return toy_rows(COPIES)


@pytest.fixture(scope="module")
def corpus(rows, tmp_path_factory) -> str:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "files", rows)


@pytest.fixture(scope="module")
def whole(toy, corpus, tmp_path_factory) -> Path:
    """Pieces of one process, with n-best lists; nothing may write into it."""
    folder = tmp_path_factory.mktemp("whole") / "answers"
    predict([*corpus_flags(toy, corpus, folder), "--shard_nbest"])
    return folder


def assert_like_plain(found: list[dict[str, Any]], expected: dict[str, dict[str, Any]]) -> None:
    """Answers and places to the byte, numbers to 1e-5."""
    assert [row["id"] for row in found] == list(expected)
    for row in found:
        plain = expected[row["id"]]
        assert [row[name] for name in ("answer", "start", "end")] == [
            plain[name] for name in ("answer", "start", "end")
        ]
        for name in VALUES:
            if name in plain:
                assert row[name] == (plain[name] if plain[name] is None else pytest.approx(plain[name], abs=1e-5))
        if "nbest" in row:
            texts = [[(entry["text"], entry["start"], entry["end"]) for entry in one["nbest"]] for one in (row, plain)]
            assert texts[0] == texts[1]


def plain_answers(toy: Toy, corpus: str, folder: Path, *words: str, **settings: Any) -> Path:
    usual = dict(model_name_or_path=toy.model, test_file=corpus, output_dir=folder, n_best_size=4) | WINDOWS
    predict([*flags(**usual | settings), *flags(cache_dir=folder.with_name("cache")), *words])
    return folder


def test_the_answers_are_those_of_plain_prediction(toy, corpus, rows, whole, tmp_path):
    """Parquet and JSON lines, dozens of pieces. Breaks if a piece's answers come from another row, if the rule of "no answer"
    differs, or if a context's window is lost at a piece's end."""
    plain = rows_of_plain(plain_answers(toy, corpus, tmp_path / "plain"))
    assert_like_plain(rows_in(whole), plain)
    contexts = {row["id"]: row["context"] for row in rows}
    found = rows_in(whole)
    assert len(found) == len(rows) and len(pieces_in(whole)) > 15
    assert all(contexts[row["id"]][row["start"] : row["end"]] == row["answer"] for row in found)
    assert 0 < sum(row["answer"] == "" for row in found) < len(found), "both kinds of answers were compared"


def test_other_numbers_of_processes_write_the_same_bytes(toy, corpus, whole, tmp_path):
    """Three as a launch. Breaks if a piece depends on who computes it, or on what it computed before."""
    words = [*corpus_flags(toy, corpus, tmp_path / "three"), "--shard_nbest"]
    assert answered(words, tmp_path / "three", processes=3) == pieces_in(whole)
    assert files.damage_of(tmp_path / "three") is None, "the manifest has each piece's size and hash"


def test_a_rank_whose_launch_is_gone_does_all_the_work(toy, corpus, whole, tmp_path):
    """One process of two, the other never comes. Breaks if a process group is made, or pieces wait for their rank."""
    launch = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}
    words = [*corpus_flags(toy, corpus, tmp_path / "alone"), "--shard_nbest"]
    assert answered(words, tmp_path / "alone", environment=launch) == pieces_in(whole)


def test_a_second_start_computes_only_what_is_missing_or_damaged(toy, corpus, tmp_path):
    """Breaks if done pieces are computed again, a flipped byte passes, or a lost piece is not noticed."""
    folder = tmp_path / "answers"
    words = corpus_flags(toy, corpus, folder)
    before = answered(words, folder)
    manifest = (folder / "manifest.json").read_bytes()
    lost, flipped, cut, *kept = sorted(before)
    (folder / lost).unlink()
    content = bytearray(before[flipped])
    content[len(content) // 5] ^= 0x10
    (folder / flipped).write_bytes(content)
    (folder / cut).write_bytes(before[cut][:-9])
    partial = folder / f".{lost}.0123456789abcdef.partial"
    partial.write_bytes(b"of a killed process")
    long_ago = time.time() - 2 * SECONDS_OF_A_PARTIAL
    os.utime(partial, (long_ago, long_ago))
    times = {name: (folder / name).stat().st_mtime_ns for name in kept}
    [left] = predict(words, processes=1)
    assert pieces_in(folder) == before
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == times
    assert "(3 pieces," in left.output and f"{flipped} is damaged" in left.output and f"{cut} is damaged" in left.output
    assert (folder / "manifest.json").read_bytes() == manifest
    assert not list(folder.glob(".*.partial"))
    [left] = predict(words)
    assert "(0 pieces," in left.output, "nothing is left to do"


def test_files_that_come_later_are_added(toy, rows, tmp_path):
    """Breaks if a grown corpus is taken for another one, or its manifest stays that of the smaller."""
    corpus, folder = tmp_path / "corpus", tmp_path / "answers"
    corpus.mkdir()
    write_lines(corpus / "b.jsonl", rows[:30])
    words = corpus_flags(toy, corpus / "*.jsonl", folder)
    before = answered(words, folder)
    write_lines(corpus / "a.jsonl", rows[30:60])
    after = answered(words, folder)
    assert before.items() < after.items()
    assert json.loads((folder / "manifest.json").read_text())["questions"] == 60


def test_ids_that_come_twice_are_kept_apart_by_file_and_place(toy, rows, tmp_path):
    """Nobody can remember all ids of a corpus. Breaks if one of the two is lost, or gets the other's answer."""
    twice = [rows[0], rows[1] | {"id": rows[0]["id"]}, rows[0]]
    pq.write_table(pa.Table.from_pylist(twice), tmp_path / "a.parquet")
    predict(corpus_flags(toy, tmp_path / "a.parquet", tmp_path / "answers"))
    found = rows_in(tmp_path / "answers")
    assert [(row["id"], row["place"]) for row in found] == [(rows[0]["id"], place) for place in (1, 2, 3)]
    assert {row["file"] for row in found} == {str(tmp_path / "a.parquet")}
    assert [found[0][name] for name in ("answer", "start")] == [found[2][name] for name in ("answer", "start")]


def calibrated(toy: Toy, folder: Path) -> Toy:
    """The toy with a threshold and a calibration, none of them fitted."""
    model = folder / "model"
    model.mkdir()
    for path in toy.model.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    AnswerPolicy(-1.5).with_calibration(Calibration(1.3, 0.4, -0.2)).store_in_file(model / "config.json")
    return Toy(model, *(getattr(toy, name) for name in ("without_dropout", "untrained", "train", "dev")))


@pytest.mark.parametrize(
    ("settings", "environment"),
    [
        ({"min_confidence": LEAST}, {}),
        ({"batching": "packed", "null_score_diff_threshold": 0.7}, {}),
        ({"null_score_diff_threshold": "inf"}, {}),
        ({"version_2_with_negative": "false"}, {"ACCELERATE_MIXED_PRECISION": "bf16", "QA_ACCEL_ALLOW_SLOW_BF16": "1"}),
    ],
)
def test_threshold_confidence_batches_and_precision_are_plain_predictions(toy, rows, tmp_path, settings, environment):
    """The model's own threshold and calibration, or the flag's. Breaks if a setting does not reach the workers."""
    pq.write_table(pa.Table.from_pylist(rows[:60]), tmp_path / "a.parquet")
    model = calibrated(toy, tmp_path)
    # one piece and one chunk: the same batches, so that half precision is compared, too
    words = corpus_flags(model, tmp_path / "a.parquet", tmp_path / "answers", piece_megabytes=1, **settings)
    predict(words, environment=environment)
    plain = tmp_path / "plain"
    words = flags(model_name_or_path=model.model, test_file=tmp_path / "a.parquet", output_dir=plain, n_best_size=4)
    predict([*words, *flags(cache_dir=tmp_path / "cache", **WINDOWS | settings)], environment=environment)
    expected, found = rows_of_plain(plain, settings.get("min_confidence")), rows_in(tmp_path / "answers")
    assert_like_plain(found, expected)
    for row in found:
        assert [row[name] for name in VALUES if name in expected[row["id"]]] == [
            expected[row["id"]][name] for name in VALUES if name in expected[row["id"]]
        ], "in the same batches to the bit"
    if "min_confidence" in settings:
        assert 0 < sum(row["confidence"] < LEAST for row in found) < len(found), "some answers were withheld"


def test_contexts_of_a_passage_table_give_the_same_answers(toy, rows, tmp_path):
    """A question with several passages is a row for each. Breaks if a passage is looked up under another's id."""
    contexts = sorted({row["context"] for row in rows})
    table = [{"id": number, "text": context} for number, context in enumerate(contexts)]
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "passages.parquet")
    asked = [
        {"id": row["id"], "question": row["question"], "context_id": [contexts.index(row["context"]), number % 20]}
        for number, row in enumerate(rows[:45])
    ]
    write_lines(tmp_path / "q.jsonl", asked)
    pairs = [
        {"id": f"{row['id']} {key}", "question": row["question"], "context": contexts[key]}
        for row in asked
        for key in row["context_id"]
    ]
    write_lines(tmp_path / "pairs.jsonl", pairs)
    one, other = tmp_path / "by_id", tmp_path / "inlined"
    words = corpus_flags(toy, tmp_path / "q.jsonl", one, piece_megabytes=1, cache_dir=tmp_path / "cache")
    predict([*words, *flags(passages_file=tmp_path / "passages.parquet")])
    predict(corpus_flags(toy, tmp_path / "pairs.jsonl", other, piece_megabytes=1))
    names = ("answer", "start", "end", "score", "null_odds")
    assert [[row[name] for name in names] for row in rows_in(one)] == [
        [row[name] for name in names] for row in rows_in(other)
    ]
    assert [f"{row['id']} {row['context_id']}" for row in rows_in(one)] == [row["id"] for row in pairs]

    write_lines(tmp_path / "bad.jsonl", [{"id": "1", "question": "?", "context_id": "nowhere"}])
    words = corpus_flags(toy, tmp_path / "bad.jsonl", tmp_path / "bad", cache_dir=tmp_path / "cache")
    [left] = run(script, PREDICT, [*words, *flags(passages_file=tmp_path / "passages.parquet")])
    assert "bad.jsonl: line at byte 0: id '1': context_id 'nowhere' is in no file of --passages_file" in only_message(
        left
    )


def test_versions_device_and_attention_are_part_of_what_the_answers_follow_from(whole):
    """Breaks if pieces of another tokenizers, whose windows are cut elsewhere, or of another device pass for these."""
    settings = json.loads((whole / "corpus.json").read_text())["settings"]
    assert (settings["tokenizers"], settings["device"]) == (tokenizers.__version__, "cpu")
    assert settings["attention"] in ("sdpa", "eager")


# --- stopping


@pytest.mark.parametrize("flag", [["--shard_output"], ["--shard-output"], ["--shard_output=true"]])
def test_signals_are_noted_from_the_start_by_any_spelling_of_the_flag(flag):
    """As the parser takes them all. Breaks if a signal while torch loads kills the process."""
    assert cli.listens_early("predict", ["--test_file", "a", *flag])
    assert not cli.listens_early("predict", ["--test_file", "shard_output"])


def signalled(path: Path, words: list[str], number: int, folder: str) -> None:
    """The script, in a process that gets the signal when the first piece is there."""

    def watch() -> None:
        while not list(Path(folder).glob("*.parquet")):
            time.sleep(0.005)
        os.kill(os.getpid(), number)

    threading.Thread(target=watch, daemon=True).start()
    script(path, words)


def test_a_signal_ends_a_run_at_the_next_batch_and_the_same_command_goes_on(toy, tmp_path):
    """75 without a launcher, 0 under one. Breaks if the signal is not heard, or leaves half a piece."""
    pq.write_table(pa.Table.from_pylist(toy_rows(40)), tmp_path / "a.parquet", row_group_size=10)
    words = corpus_flags(toy, tmp_path / "a.parquet", tmp_path / "answers")
    options: dict[str, Any] = {"without": ["ACCELERATE_DYNAMO_BACKEND"]}
    [left] = run(signalled, PREDICT, words, signal.SIGTERM, str(tmp_path / "answers"), **options)
    assert left.code == 75 and "stopped by SIGTERM" in left.output and "Traceback" not in left.output
    assert not (tmp_path / "answers" / "manifest.json").exists()
    assert len(pieces_in(tmp_path / "answers")) > 0 and not list((tmp_path / "answers").glob(".*.partial"))
    assert json.loads((tmp_path / "answers" / "stopped-here.json").read_text())["reason"] == "SIGTERM"
    for path in (tmp_path / "answers").glob("*.parquet"):
        path.unlink()
    [left] = run(signalled, PREDICT, words, signal.SIGUSR1, str(tmp_path / "answers"))
    assert left.code == 0 and "stopped by SIGUSR1" in left.output


def test_a_few_kills_at_random_moments_lose_nothing(tmp_path):
    """Breaks if a dead process's piece is never computed, or computed under two names."""
    summary = chaos(3, seed=1, place=tmp_path, copies=6)
    assert summary.kills >= 3 and not summary.wrong, str(summary)


@pytest.mark.slow
def test_thirty_kills_at_random_moments_lose_nothing(tmp_path):
    summary = chaos(30, seed=0, place=tmp_path, copies=50)
    assert summary.kills >= 30 and not summary.wrong, str(summary)


# --- refusals


def refused(words: list[str], **options: Any) -> str:
    [left] = run(script, PREDICT, words, **options)
    return only_message(left)


def test_a_folder_of_other_answers_is_refused_with_what_differs(toy, rows, tmp_path):
    """Model, settings, input, input that is gone. Breaks if old pieces pass for the new command's, or nobody says why not."""
    file, folder = write_lines(tmp_path / "a.jsonl", rows[:20]), tmp_path / "answers"
    words = corpus_flags(toy, file, folder)
    before = answered(words, folder)
    head = f"--output_dir {folder} holds {len(before)} pieces of other answers"
    message = refused(corpus_flags(toy, file, folder, max_answer_length=7))
    assert head in message and "max_answer_length was '30', is '7'" in message
    assert "the model has changed" in refused(corpus_flags(calibrated(toy, tmp_path), file, folder))
    other = write_lines(tmp_path / "b.jsonl", rows[:5])
    assert f"{file} is no longer in --test_file" in refused(corpus_flags(toy, other, folder))
    write_lines(file, rows[1:21])
    assert f"the input has changed: {file} has another size or time" in refused(words)
    assert pieces_in(folder) == before, "a refusal changes nothing"
    for path in folder.glob("*.parquet"):
        path.unlink()
    predict(words)
    assert [row["id"] for row in rows_in(folder)] == [row["id"] for row in rows[1:21]]


@pytest.mark.parametrize(
    ("left_there", "message"),
    [
        ("metrics.jsonl", "is the folder of another run (it holds metrics.jsonl)"),
        ("predictions.json", "is the folder of another run (it holds predictions.json)"),
        ("q.jsonl", "and the answers would be read as questions"),
    ],
)
def test_a_folder_that_is_in_use_otherwise_is_refused(toy, rows, tmp_path, left_there, message):
    file = write_lines(tmp_path / left_there, rows[:5])
    assert message in refused(corpus_flags(toy, file, tmp_path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_predict_samples": 5}, "--max_predict_samples is not supported with --shard_output"),
        ({"piece_megabytes": 0}, "--piece_megabytes must be more than 0"),
    ],
)
def test_settings_that_need_the_whole_corpus_are_refused(toy, corpus, tmp_path, settings, message):
    [left] = run(script, PREDICT, corpus_flags(toy, corpus, tmp_path / "answers", **settings))
    assert left.code == 2 and message in left.output


def test_a_bad_row_ends_the_run_with_its_place_and_keeps_what_is_done(toy, rows, tmp_path):
    """Breaks if the error of a worker is lost, hangs the run, or comes as a traceback."""
    file = write_lines(tmp_path / "a.jsonl", [*rows[:40], rows[40] | {"question": 3}])
    message = refused(corpus_flags(toy, file, tmp_path / "answers"))
    assert f"{file}: line at byte " in message and "'question' is '3' (int); text is expected" in message
    assert len(pieces_in(tmp_path / "answers")) > 1 and not list((tmp_path / "answers").glob(".*.partial"))
