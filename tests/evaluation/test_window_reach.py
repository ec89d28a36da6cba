"""What a prediction could reach, against the labels that the package makes for training from the same windows."""

import itertools

import datasets
import numpy as np
import pytest
from toy_questions import questions_of
from toy_tokenizers import FAMILIES, not_composable

from qa_accel.data.label_audit import audit_labels
from qa_accel.data.settings import WindowConfig
from qa_accel.data.window_cache import prepare_windows
from qa_accel.data.windows import Windows
from qa_accel.evaluation.window_reach import WindowReach

SMALL = WindowConfig(max_seq_length=24, doc_stride=3, max_query_length=6)
WORDS = [
    "Ana",
    "Müller",
    "wrote",
    "1862,",
    "Zürich",
    "  ",
    "\n",
    "東京はどこ",
    "🚀🚀",
    "Sa\u0303o",
    "unbelievable",
    "كتب",
    "(x)",
    "\u200b",
]
MAKERS = {**FAMILIES, "not_composable": not_composable}


def random_questions(seed: int, questions: int = 60) -> datasets.Dataset:
    """Each on a context of its own, of 0 to 40 odd words, with one gold answer of some characters anywhere, maybe with blanks at its
    edges or ending inside a word; every seventh without an answer."""
    generator = np.random.default_rng(seed)
    contexts, golds = [], []
    for row in range(questions):
        count = int(generator.integers(0, 40)) if row else 0
        context = "".join(w if generator.random() < 0.2 else w + " " for w in generator.choice(WORDS, size=count))
        begin = int(generator.integers(0, len(context))) if context else 0
        text = context[begin : begin + int(generator.integers(1, 50))]
        contexts.append(context)
        has_answer = bool(text) and row % 7
        golds.append({"text": [text], "answer_start": [begin]} if has_answer else {"text": [], "answer_start": []})
    return questions_of(
        {
            "id": [f"q{row}" for row in range(questions)],
            "question": ["Who wrote it?" if row % 2 else "When?" for row in range(questions)],
            "context": contexts,
            "answers": golds,
        }
    )


@pytest.fixture(params=MAKERS, scope="module")
def made(request, tmp_path_factory) -> tuple[datasets.Dataset, Windows]:
    questions = random_questions(list(MAKERS).index(request.param))
    folder = tmp_path_factory.mktemp("windows")
    return questions, prepare_windows(questions, MAKERS[request.param](), SMALL, cache_dir=folder)


def golds_of(questions: datasets.Dataset) -> list[tuple[list[str], list[int]]]:
    return [(answers["text"], answers["answer_start"]) for answers in questions["answers"][:]]


def test_an_answer_is_reached_where_a_window_is_labelled_with_it(made):
    """Breaks if a window's border within the answer is overlooked (also between the bytes of one character), or if blanks, combining
    accents and tokens without characters at the answer's ends make it unreachable."""
    questions, windows = made
    reach = WindowReach(windows, range(len(questions)))
    labelled = set(windows.question_W[windows.start_W != windows.null_W].tolist())
    golds = golds_of(questions)
    has_answer = [row for row, (texts, _) in enumerate(golds) if texts]
    reached = {row for row in has_answer if reach.reaches(row, *golds[row], None)}
    assert reached == labelled
    assert 5 < len(reached) < len(has_answer), "some are reached and some are not"
    assert all(reach.reaches(row, *golds[row], None) for row in set(range(len(questions))) - set(has_answer))


@pytest.mark.parametrize("longest", [1, 2, 4, 8])
def test_answers_that_are_too_long_are_those_that_the_audit_lists(made, longest):
    """Breaks if the limit is off by one, or counts the tokens that cover a character only."""
    questions, windows = made
    reach = WindowReach(windows, range(len(questions)))
    too_long = {
        questions[row]["id"]
        for row, gold in enumerate(golds_of(questions))
        if reach.reaches(row, *gold, None) and not reach.reaches(row, *gold, longest)
    }
    assert too_long == set(audit_labels(windows, questions, longest).long_answer_ids or ())
    assert too_long or longest == 8


def test_windows_cover_the_context_from_its_first_token_to_its_last(made):
    """Each window begins behind the start of the one before, no later than at its end, and together they hold every character that is
    no blank. Breaks if windows of another question are counted, or special tokens."""
    questions, windows = made
    reach = WindowReach(windows, range(len(questions)))
    assert len(reach) == len(windows) == sum(reach.count(row) for row in range(len(questions)))
    for row, context in enumerate(questions["context"][:]):
        borders = reach.borders(row)
        visible = [place for place, character in enumerate(context) if character.isalnum() and character < "\u0300"]
        covered = [any(start <= place < end for start, end in borders) for place in visible]
        assert all(covered)
        for (start, end), (later, last) in itertools.pairwise(borders):
            assert start <= later and end <= last
            assert not context[end:later].strip("\u200b\n "), "nothing but blanks between windows"


def test_one_of_several_gold_answers_is_enough(made):
    """Breaks if all of them must be reached, or only the first counts."""
    questions, windows = made
    reach = WindowReach(windows, range(len(questions)))
    both, golds = [False, False], golds_of(questions)
    for row, ((text,), (start,)) in ((row, gold) for row, gold in enumerate(golds) if gold[0]):
        context = questions[row]["context"]
        alone, whole = (reach.reaches(row, [each], [at], None) for each, at in ((text, start), (context, 0)))
        assert reach.reaches(row, [context, text], [0, start], None) == (alone or whole)
        assert reach.reaches(row, [text, context], [start, 0], None) == (alone or whole)
        both[alone] = True
    assert all(both)


def test_some_questions_in_another_order_have_their_own_windows(made):
    """Breaks if rows of the subset are taken for rows of all questions."""
    questions, windows = made
    every, rows, golds = WindowReach(windows, range(len(questions))), [41, 3, 0, 40], golds_of(questions)
    for chosen in (every.of_rows(rows), WindowReach(windows, rows)):
        assert len(chosen) == sum(map(every.count, rows))
        for place, row in enumerate(rows):
            assert (chosen.count(place), chosen.borders(place)) == (every.count(row), every.borders(row))
            for longest in (None, 3):
                assert chosen.reaches(place, *golds[row], longest) == every.reaches(row, *golds[row], longest)


def test_an_empty_answer_and_an_empty_context_are_out_of_reach(made):
    questions, windows = made
    reach = WindowReach(windows, range(len(questions)))
    assert questions[0]["context"] == "" and reach.borders(0) == []
    assert not reach.reaches(0, ["x"], [0], None)
    assert not reach.reaches(5, [""], [3], None)
