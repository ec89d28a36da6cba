"""The folder of a corpus's answers, as several processes see it, and what they leave each other.

Two views of it in this process: locks do not keep a process from its own claims, so that each claim is granted twice, as where a
file system has no locks.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from corpora import toy_rows, write_lines
from toy_tokenizers import not_composable

from qa_accel import files
from qa_accel.data import passages
from qa_accel.data.corpus_pieces import corpus_files, pieces
from qa_accel.data.settings import Columns, WindowConfig
from qa_accel.distributed.ranks import Rank
from qa_accel.inference import corpus_table
from qa_accel.inference.corpus import answer_pieces, claimed
from qa_accel.inference.corpus_folder import CorpusFolder, Identity, NamedPiece, named_pieces
from qa_accel.inference.corpus_worker import Work
from qa_accel.inference.settings import SpanConfig

ALONE = Rank(number=0, count=1, on_this_host=1, speaks=True, exit_code=75)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return toy_rows(1)


def view(folder: Path, *inputs: Path, settings: dict[str, Any] | None = None) -> CorpusFolder:
    """What a process sees that was started with these files."""
    folder.mkdir(exist_ok=True)
    found = corpus_files([str(path) for path in inputs], "test_file")
    identity = Identity("model", settings or {"max_seq_length": 9})
    return CorpusFolder(folder, named_pieces(pieces(found, {}, 10**6), identity), identity, found)


def write_piece(seen: CorpusFolder, piece: NamedPiece) -> None:
    """A whole piece, without rows."""
    with corpus_table.writing(seen.path / piece.name, nbest=False, tag=seen.tag):
        pass


def test_without_locks_a_process_deletes_no_partial_files_of_another(rows, tmp_path):
    """Breaks if a claim that is granted twice deletes what the other one writes, or if stopping does."""
    file = write_lines(tmp_path / "a.jsonl", rows[:5])
    one, other = view(tmp_path / "answers", file), view(tmp_path / "answers", file)
    [piece] = one.pieces
    assert one.claim(piece)
    with corpus_table.writing(one.path / piece.name, nbest=False, tag=one.tag):
        assert other.claim(piece)
        with files.replacing(other.path / piece.name, tag=other.tag) as of_other:
            other.drop_all()
            assert not of_other.exists(), "its own is deleted"
            of_other.touch()  # what follows is not about its end
    assert one.is_done(piece)


def test_a_piece_that_is_damaged_or_vanishes_at_the_end_leaves_the_manifest_to_others(rows, tmp_path):
    """Breaks if the process that comes last dies of a piece that another one is about to compute again."""
    inputs = [write_lines(tmp_path / f"{name}.jsonl", rows[:5]) for name in "ab"]
    seen = view(tmp_path / "answers", *inputs)
    first, second = seen.pieces
    write_piece(seen, first)
    (seen.path / second.name).write_bytes(b"PAR1 cut off")
    assert seen.finish({}) is None
    (seen.path / second.name).unlink()
    (seen.path / second.name).symlink_to("gone")  # listed, but not there when it is opened
    assert seen.finish({}) is None
    assert not (seen.path / files.MANIFEST).exists()
    (seen.path / second.name).unlink()
    write_piece(seen, second)
    manifest = seen.finish({})
    assert manifest is not None and manifest["files"].keys() == {first.name, second.name}
    (seen.path / second.name).unlink()
    (seen.path / second.name).symlink_to("gone")
    assert seen.finish({}) is None, "nor of a piece that the manifest lists"


def test_a_process_with_fewer_files_keeps_the_manifest_of_more(rows, tmp_path):
    """Breaks if the start that ends last replaces the whole manifest by one of its own files."""
    inputs = [write_lines(tmp_path / f"{name}.jsonl", rows[:5]) for name in "ab"]
    few = view(tmp_path / "answers", inputs[0])
    many = view(tmp_path / "answers", *inputs)
    for piece in many.pieces:
        write_piece(many, piece)
    whole = many.finish({})
    assert whole is not None and len(whole["files"]) == 2
    assert few.finish({}) == whole == json.loads((tmp_path / "answers" / files.MANIFEST).read_text())
    (tmp_path / "answers" / many.pieces[1].name).unlink()
    subset = few.finish({})
    assert subset is not None and list(subset["files"]) == [few.pieces[0].name], "the former one is no longer true"


def test_two_starts_with_different_settings_on_an_empty_folder_do_not_both_fill_it(rows, tmp_path):
    """Breaks if nobody looks again whose folder it is. More files of the same answers are no reason."""
    inputs = [write_lines(tmp_path / f"{name}.jsonl", rows[:5]) for name in "ab"]
    one = view(tmp_path / "answers", inputs[0])
    view(tmp_path / "answers", *inputs)
    assert one.claim(one.pieces[0])
    one.drop_all()
    view(tmp_path / "answers", inputs[0], settings={"max_seq_length": 8})
    with pytest.raises(ValueError, match=r"another start has taken the folder .*max_seq_length was '8', is '9'"):
        one.claim(one.pieces[0])


def test_a_tokenizer_that_cannot_be_composed_is_said_to_be_slower(rows, tmp_path, caplog):
    """The way of 0.23.2 and others, at a sixth of the speed. Breaks if the reason does not leave the worker."""

    def stop(windows: Any) -> Any:
        raise InterruptedError

    seen = view(tmp_path / "answers", write_lines(tmp_path / "a.jsonl", rows[:5]))
    work = Work(
        folder=seen.path,
        columns=Columns(),
        tokenizer=not_composable(),
        windows=WindowConfig(64, 16, 20),
        spans=SpanConfig(),
        version_2_with_negative=True,
        calibration=None,
        min_confidence=None,
        nbest=False,
        passages=None,
    )
    with pytest.raises(InterruptedError):
        answer_pieces(seen, ALONE, work, stop, lambda done: None, workers=1)
    [warning] = [one.getMessage() for one in caplog.records if "which is slower" in one.getMessage()]
    assert "questions are tokenized together with their contexts, which is slower: it tokenizes pairs diff" in warning
    assert not list(seen.path.glob(".*.partial"))


def test_a_stop_is_looked_for_while_the_table_the_pieces_and_the_manifest_are_read(rows, tmp_path):
    """Minutes each for a large corpus. Breaks if one of the three loops no longer asks; nothing half is left."""

    def stop() -> None:
        raise InterruptedError

    seen = view(tmp_path / "answers", write_lines(tmp_path / "a.jsonl", rows[:5]))
    write_piece(seen, seen.pieces[0])
    with pytest.raises(InterruptedError):
        seen.finish({}, stop)
    with pytest.raises(InterruptedError):
        next(claimed(seen, ALONE, stop))
    table = write_lines(tmp_path / "p.jsonl", [{"id": "1", "text": "Ada wrote it."}])
    with pytest.raises(InterruptedError):
        passages.passage_table([str(table)], "passages_file", tmp_path / "cache", stop)
    assert not list((tmp_path / "cache").glob("*.arrow")) and not (seen.path / files.MANIFEST).exists()
    assert seen.finish({}) is not None, "the claim on the manifest was given back"
