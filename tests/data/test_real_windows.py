"""Windows of all of real SQuAD, by a real tokenizer: those of the plain way, with labels that cover the gold answers."""

import gzip
import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from toy_questions import questions_of
from transformers import AutoTokenizer

from qa_accel.data import window_cache
from qa_accel.data.pair_tokenizer import PairTokenizer, one_thread
from qa_accel.data.settings import WindowConfig
from qa_accel.data.window_cache import prepare_windows
from qa_accel.data.windows import Windows


def squad(path: Path) -> datasets.Dataset:
    with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
        articles = json.load(file)["data"]
    rows = [(p["context"], qa) for article in articles for p in article["paragraphs"] for qa in p["qas"]]
    return questions_of(
        {
            "id": [qa["id"] for _, qa in rows],
            "question": [qa["question"] for _, qa in rows],
            "context": [context for context, _ in rows],
            "answers": [
                {key: [answer[key] for answer in qa["answers"]] for key in ("text", "answer_start")} for _, qa in rows
            ],
        }
    )


@pytest.fixture(scope="module")
def minilm(shared):
    return AutoTokenizer.from_pretrained(shared / "models" / "minilm")


@pytest.fixture(scope="module", params=["train-5k.json", "dev.json"])
def real(request, shared, minilm, tmp_path_factory) -> tuple[datasets.Dataset, Windows]:
    questions = squad(shared / "data" / "squad_v2" / request.param)
    return questions, prepare_windows(questions, minilm, WindowConfig(), cache_dir=tmp_path_factory.mktemp("cache"))


def test_real_windows_are_those_of_the_plain_way(real, minilm):
    # All 5,000 and 6,078 questions, whatever they hold of scripts, blanks and signs.
    questions, windows = real
    pairs = PairTokenizer(minilm, WindowConfig())
    begin, checked = 0, 0
    with one_thread():
        for table in questions.with_format("arrow").iter(batch_size=1000):
            gold = window_cache.gold_answers(table)
            plain = pairs.tokenize_pairs(
                table["question"].to_pylist(), table["context"].to_pylist(), gold, WindowConfig()
            )
            part = slice(checked, checked + len(plain))
            tokens = slice(windows.begin_W[part.start], windows.begin_W[part.stop])
            for name, array in vars(plain).items():
                ours = getattr(windows, name)
                if array is None:  # labels of --answers all and first
                    assert ours is None
                    continue
                if name == "question_W":
                    array = array + begin
                elif name == "begin_W":
                    array, ours = np.diff(array), np.diff(ours)
                elif name.endswith("_Q"):
                    ours = ours[begin : begin + table.num_rows]
                if not name.endswith("_Q"):
                    ours = ours[tokens if name.endswith("_N") else part]
                np.testing.assert_array_equal(ours, array, err_msg=name)
            begin, checked = begin + table.num_rows, checked + len(plain)
    assert checked == len(windows) and begin == len(questions)


def test_real_labels_cover_the_gold_answer_in_every_window_that_holds_it(real):
    # An answer may begin or end within a token ("1990s" is one token, "1990" the answer): covered, but not exact.
    questions, windows = real
    contexts, answers = questions["context"][:], questions["answers"][:]
    start_N, end_N = windows.offset_start_N, windows.offset_end_N
    holding, exact = 0, 0
    for w in range(len(windows)):
        question, first = windows.question_W[w], windows.begin_W[w]
        context, gold = contexts[question], answers[question]
        labelled = windows.start_W[w] != windows.null_W[w]
        holds = False
        if windows.context_begin_W[w] < windows.context_end_W[w]:
            shown_from = start_N[first + windows.context_begin_W[w]]
            shown_to = end_N[first + windows.context_end_W[w] - 1]
            for text, begin in zip(gold["text"], gold["answer_start"]):
                holds = shown_from <= begin and begin + len(text) <= shown_to
                if holds:
                    break
        assert labelled == holds
        if holds:
            said = slice(start_N[first + windows.start_W[w]], end_N[first + windows.end_W[w]])
            assert said.start <= begin and begin + len(text) <= said.stop
            assert windows.context_begin_W[w] <= windows.start_W[w] <= windows.end_W[w] < windows.context_end_W[w]
            holding += 1
            exact += context[said] == text
    print(f"{len(questions)} questions, {len(windows)} windows, {holding} with an answer, exact {exact / holding:.2%}")
    assert holding > 2000
    assert exact / holding > 0.98


def test_each_window_of_a_contract_is_taught_the_clause_that_it_shows(shared, minilm, tmp_path):
    """Two clauses answer the question, 3,800 characters apart, in seven windows. Breaks if only the windows of the first
    are labelled: the others would be taught that the contract names no fee."""
    file = shared / "cases" / "two_clauses.json"
    if not file.is_file():
        pytest.skip("the practitioners' files are not next to this checkout (../shared/cases)")
    questions = squad(file)
    windows = prepare_windows(questions, minilm, WindowConfig(), cache_dir=tmp_path)
    [context] = questions["context"][:]
    starts = windows.offset_start_N[windows.begin_W[:-1] + windows.start_W]
    ends = windows.offset_end_N[windows.begin_W[:-1] + windows.end_W]
    labels = [context[start:end] for start, end in zip(starts, ends)]
    assert len(labels) == 7 and set(labels) == {"500 dollars", "70 dollars", ""}
    for w, label in enumerate(labels):
        tokens = windows.begin_W[w] + np.arange(windows.context_begin_W[w], windows.context_end_W[w])
        shown = context[windows.offset_start_N[tokens[0]] : windows.offset_end_N[tokens[-1]]]
        assert label in shown and (label or not ("500 dollars" in shown or "70 dollars" in shown))
