"""Layouts of other projects: what comes out of a small file of each, and that no damage gives anything but one error."""

import copy
import gzip
import json
import logging
import os
import random
from pathlib import Path

import pytest
from layout_samples import (
    BIOASQ,
    BRIDGE,
    CMRC,
    LABEL_STUDIO,
    MRQA,
    MULTI_SPAN_QA,
    NEWSQA,
    NEWSQA_DEV,
    NEWSQA_STORIES,
    PARAGRAPHS,
    RIVER,
    SAMPLES,
    TAGGED,
    WHO,
    Question,
    annotated,
    lines,
    squad,
    task,
)

from qa_accel.commands.score import scores
from qa_accel.commands.settings.score import ScoreConfig
from qa_accel.data.arriving_rows import ArrivingLines, ArrivingRow, question_rows, ready_rows
from qa_accel.data.corpus_pieces import corpus_files, pieces
from qa_accel.data.file_rows import file_rows
from qa_accel.data.questions import load_questions
from qa_accel.data.settings import Columns, DataConfig
from qa_accel.data.squad_format import gold_texts_by_id, question_batches


def read(path: Path, split: str) -> list[Question]:
    found = [row for batch in question_batches(file_rows(path, split), Columns()) for row in batch.to_pylist()]
    return [
        Question(
            row["id"],
            row["question"],
            row["context"],
            None if row["answers"] is None else list(zip(row["answers"]["text"], row["answers"]["answer_start"])),
        )
        for row in found
    ]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: f"{sample.file}-{sample.split}")
def test_each_layout_gives_the_questions_that_were_read_off_by_hand(sample, tmp_path, caplog):
    """Breaks if an offset is one off, an id is another's, an unlabelled question counts as "no answer", or something is
    left out without a word. The samples themselves are checked: each answer is at its offset."""
    for question in sample.questions:
        for text, start in question.answers or ():
            assert question.context[start : start + len(text)] == text
    path = tmp_path / sample.file
    path.write_text(sample.content, encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert read(path, sample.split) == sample.questions
    assert [f"{path}: {part}" for part in sample.left_out] == [record.getMessage() for record in caplog.records]


def test_a_gzipped_file_with_windows_line_ends_and_a_mark_reads_the_same(tmp_path):
    """Breaks if MRQA's header is known by the first bytes of the file."""
    path = tmp_path / "mrqa.jsonl.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + MRQA.content.replace("\n", "\r\n").encode()))
    assert read(path, "train") == MRQA.questions


def test_one_newsqa_file_gives_each_split_its_own_stories_from_the_cache_too(tmp_path):
    """Breaks if the cache knows a file by its bytes alone: validation would get the training stories."""
    path = tmp_path / "newsqa.json"
    path.write_text(NEWSQA.content)
    config = DataConfig(
        train_file=(str(path),), validation_file=(str(path),), test_file=(str(path),), cache_dir=str(tmp_path / "cache")
    )
    for _ in range(2):
        assert load_questions(config, "train")["id"][:] == ["./news/a.story#0", "./news/a.story#2"]
        assert load_questions(config, "validation")["id"][:] == ["./news/b.story#0"]
    with pytest.raises(ValueError, match=r"newsqa.json: holds no question"):
        load_questions(config, "test")  # its one test story has none


def test_the_split_changes_nothing_about_files_that_hold_one(tmp_path):
    """Breaks if SQuAD's questions get another fingerprint, by which windows are cached and runs resumed, for each split."""
    path = tmp_path / "squad.json"
    path.write_text(squad({"context": BRIDGE, "qas": [{"id": "1", "question": WHO, "answers": []}]}))
    config = DataConfig(train_file=(str(path),), validation_file=(str(path),), cache_dir=str(tmp_path / "cache"))
    assert load_questions(config, "train")._fingerprint == load_questions(config, "validation")._fingerprint


def test_a_story_among_other_rows_is_refused(tmp_path):
    """Breaks if the cache, which knows a layout by the first element, could give one split's stories to another."""
    path = tmp_path / "mixed.json"
    path.write_text(json.dumps([{"id": "1", "question": WHO, "context": BRIDGE, "answers": []}, NEWSQA_STORIES[0]]))
    with pytest.raises(ValueError, match=r"mixed.json: row 2 has NewsQA's combined JSON, but row 1 has not; keep"):
        read(path, "train")


def test_the_scorer_compares_with_the_texts_that_mrqa_accepts(tmp_path):
    """MRQA's own scorer takes `answers`; "the Lume" is in no context. Breaks if it gets the detected texts."""
    path = tmp_path / "mrqa.jsonl"
    path.write_text(MRQA.content)
    assert gold_texts_by_id(file_rows(path, "validation"), Columns()) == {"q1": ["the Lume", "Lume river"]}


@pytest.mark.parametrize(
    ("sample", "predictions"),
    [
        (MRQA, {"q1": "The Lume."}),
        (CMRC, {"T_0_Q_0": "由霍爾特"}),
        (NEWSQA_DEV, {"./news/b.story#0": "1931"}),
        (BIOASQ, {"b1_001": "abx1", "b2": "QR-2"}),
        (LABEL_STUDIO, {"1": "Holt", "2": "", "3": "1931", "4": "Dana Holt"}),
    ],
    ids=lambda value: getattr(value, "file", ""),
)
def test_the_score_command_reads_layouts(sample, predictions, tmp_path):
    """Each prediction is one of the gold answers. Breaks if the scorer reads files in another way than training."""
    path = tmp_path / sample.file
    path.write_text(sample.content, encoding="utf-8")
    (tmp_path / "predictions.json").write_text(json.dumps(predictions))
    settings = ScoreConfig(validation_file=(str(path),), predictions_file=str(tmp_path / "predictions.json"))
    figures = scores(settings)
    assert (figures["exact"], figures["total"]) == (100.0, len(predictions))


@pytest.mark.parametrize(
    "sample", [MRQA, NEWSQA, MULTI_SPAN_QA, LABEL_STUDIO, BIOASQ, PARAGRAPHS], ids=lambda sample: sample.file
)
def test_pieces_of_a_corpus_are_refused_for_layouts_with_the_remedy(sample, tmp_path):
    """Breaks if a line that holds several questions, or an element of another layout, is taken for a row of a corpus."""
    path = tmp_path / "corpus.jsonl"
    content, _ = documents(sample)
    elements = content if isinstance(content, list) else content.get("data", [content])
    path.write_text(lines(*elements))
    with pytest.raises(
        ValueError, match=r"corpus.jsonl: is nested JSON .*write its questions as Parquet or JSON lines"
    ):
        pieces(corpus_files([str(path)], "test_file"), {"question": "question_column"}, 1000)


def test_a_line_of_a_stream_gives_the_questions_of_its_layout():
    """Breaks if `ask` takes a paragraph for a question without text, or one damaged line ends the stream."""
    rows = asked(MRQA.content + lines({"context": BRIDGE, "qas": 5}, {"question": WHO, "context": BRIDGE}))
    assert [(row.line, row.values.get("question")) for row in rows] == [(2, RIVER), (3, None), (4, WHO)]
    assert [row.error for row in rows] == [None, "paragraph 1: 'qas' is '5' (int); nested SQuAD has a list there", None]
    assert rows[0].values["context"] == TAGGED


def asked(content: str) -> list[ArrivingRow]:
    reading, writing = os.pipe()
    os.write(writing, content.encode())
    os.close(writing)
    arriving = ArrivingLines(reading, "stdin")
    found = [
        row for ready in ready_rows(question_rows(arriving, "question", plain=False), arriving, 8) for row in ready
    ]
    os.close(reading)
    return found


def test_regions_that_fit_neither_way_are_left_for_the_audit(tmp_path):
    """Breaks if such a region is moved to where its text happens to be, or ends the run."""
    path = tmp_path / "export.json"
    path.write_text(json.dumps([task(1, WHO, [annotated((5, 14, "Dana Holt"))])]))
    assert read(path, "train") == [Question("1", WHO, BRIDGE, [("Dana Holt", 5)])]


def test_a_relation_between_regions_is_no_answer(tmp_path):
    """Breaks if an export with relations cannot be read."""
    relation = {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"}
    one = task(1, WHO, [annotated((39, 48, "Dana Holt"))])
    one["annotations"][0]["result"].append(relation)
    path = tmp_path / "export.json"
    path.write_text(json.dumps([one]))
    assert read(path, "train") == [Question("1", WHO, BRIDGE, [("Dana Holt", 39)])]


def test_texts_of_a_factoid_are_spellings_of_one_answer(tmp_path):
    """In BioASQ a factoid has one item. Breaks if a short spelling that occurs twice hides the long one that occurs once."""
    question = {"id": "f", "type": "factoid", "body": "Who?", "snippets": [{"text": "Ada Holt met Ada."}]}
    path = tmp_path / "bioasq.json"
    path.write_text(json.dumps({"questions": [question | {"exact_answer": ["Ada", "Ada Holt"]}]}))
    assert [each.answers for each in read(path, "train")] == [[("Ada Holt", 0)]]


# Damage


ODD = (None, 7, True, 1.5, "", "x", [], [7], ["x"], [None], {}, {"x": 7}, [[]], [{}])


def places(value, path=()):
    """Keys that lead to each value within a value, itself included."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*path, key))


def changed(value, path, odd):
    if not path:
        return odd
    made = copy.deepcopy(value)
    holder = made
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = odd
    return made


def documents(sample):
    """The sample's JSON values, and how they become a file again."""
    if sample.file.endswith(".jsonl"):
        return [json.loads(line) for line in sample.content.splitlines()], lambda values: lines(*values)
    return json.loads(sample.content), json.dumps


def damages(sample):
    """Every place of the sample with every odd value; what is beyond the third of a list is like those before."""
    content, _ = documents(sample)
    kept = (keys for keys in places(content) if keys and not any(isinstance(key, int) and key > 2 for key in keys))
    return [(keys, odd) for keys in kept for odd in ODD]


def refusals(sample, damaged, path):
    """Number of refusals by the readers of questions and of gold texts; what they raise is looked at."""
    content, text_of = documents(sample)
    refused = 0
    for keys, odd in damaged:
        path.write_text(text_of(changed(content, keys, odd)), encoding="utf-8")
        for reading in (
            lambda: read(path, sample.split),
            lambda: gold_texts_by_id(file_rows(path, sample.split), Columns()),
        ):
            try:
                reading()
            except ValueError as error:
                refused += 1
                said = str(error)
                assert said.startswith(f"{path}") and "\n" not in said and len(said) < 1000, (keys, odd, said)
    return refused


IN_JSON = [sample for sample in SAMPLES if not sample.file.endswith(".csv")]


def test_whatever_is_at_a_place_of_a_layout_there_are_rows_or_one_error(tmp_path):
    """Breaks with a TypeError or KeyError out of a layout, or an error that does not name the file."""
    draw = random.Random(17)
    refused = [refusals(sample, draw.sample(damages(sample), 40), tmp_path / sample.file) for sample in IN_JSON]
    assert min(refused) > 5, "damage that nobody notices tests nothing"


@pytest.mark.slow
@pytest.mark.parametrize("sample", IN_JSON, ids=lambda sample: f"{sample.file}-{sample.split}")
def test_every_odd_value_at_every_place_of_a_layout(sample, tmp_path):
    """The test above without the draw: some 15,000 damaged files."""
    assert refusals(sample, damages(sample), tmp_path / sample.file) > 20


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            [{"storyId": "s", "text": BRIDGE, "type": "train", "asked": []}],
            r"row 1: no column 'id'; found storyId, text, type, asked; add it, .* the nearest layout that is read is NewsQA's "
            r"combined JSON, whose elements have storyId, text, type, questions: here questions is missing; a row that is "
            r'always read is \{"id"',
        ),
        (
            [{"id": "b", "body": "Which?", "passages": []}],
            r"no column 'question'; .*nearest layout .* is BioASQ, .*: here type, snippets, exact_answer are missing",
        ),
        (
            [{"q": "Which?", "p": "Here."}],
            r"no column 'id'; found q, p; .*--id_column; a row that is always read is \{",
        ),
        (
            [{"storyId": "s", "text": BRIDGE, "type": "trian", "questions": []}],
            r"story 1: 'type' is 'trian' \(str\); NewsQA's combined JSON has train, dev or test there",
        ),
        (
            [{"id": "m", "question": ["a"], "context": ["b", "c"], "label": ["B"]}],
            r"question 1: 2 tokens in 'context', but 1 in 'label'; each token has a label",
        ),
        (
            [task(1, WHO, []) | {"data": {"passage": BRIDGE, "question": WHO}}],
            r"task 1: 'text' under 'data' is null or missing; found passage, question; Label Studio's question answering",
        ),
        (
            [task(1, WHO, [annotated((8, 3, "x"))])],
            r"task 1, annotation 1, result 1: 'start' is 8 and 'end' is 3; a region begins before it ends",
        ),
        (
            {"questions": [{"id": "b", "type": "factoid", "body": "W?", "snippets": [{"text": 7}]}]},
            r"question 1, snippet 1: 'text' is '7' \(int\); BioASQ has text there",
        ),
    ],
)
def test_what_is_unknown_or_wrong_is_refused_with_its_place_and_the_nearest_layout(content, message, tmp_path):
    """Breaks if an unknown layout only gets a list of its columns."""
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"odd.json: .*{message}"):
        read(path, "train")


def test_label_studio_names_each_task_by_its_own_number(tmp_path):
    """Breaks if ids come from the annotations, of which a task has several."""
    path = tmp_path / "export.json"
    path.write_text(LABEL_STUDIO.content)
    assert [question.id for question in read(path, "train")] == ["1", "2", "3", "4"]
