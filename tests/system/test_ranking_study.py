"""The study of rankings on the toy; `python tests/studies/ranking.py` runs it on real questions."""

import json
from pathlib import Path

import numpy as np
import pytest
import ranking
import ranking_windows
from ranking_documents import make_documents, read_questions
from ranking_quantities import FIGURES, best_texts, right
from ranking_statistics import auroc, best_score
from toy import NAMES, context_about, questions_about

from qa_accel import Reader
from qa_accel.data.settings import WindowConfig
from qa_accel.evaluation.squad_scores import squad_scores

WINDOWS = WindowConfig(max_seq_length=64, doc_stride=16, max_query_length=16)


@pytest.fixture(scope="module")
def study(toy, tmp_path_factory) -> ranking.Study:
    """Two articles of eight people each, one of whom has a paragraph of several windows; half of the questions sampled."""
    folder: Path = tmp_path_factory.mktemp("ranking")
    articles = [
        {
            "paragraphs": [
                {"context": context_about(name), "qas": questions_about(name, f"{number}-{name}")} for name in names
            ]
        }
        for number, names in enumerate((NAMES[:8], NAMES[-8:]))
    ]
    (folder / "dev.json").write_text(json.dumps({"data": articles}))
    questions = read_questions(folder / "dev.json")
    documents = make_documents(questions, samples=24)
    found = ranking_windows.find(questions, documents, str(toy.model), WINDOWS, lambda done, of: None)
    ranking_windows.save(found, folder / "candidates.npz")
    return ranking.make_study(questions, documents, ranking_windows.load(folder / "candidates.npz"))


def test_documents_are_the_own_paragraph_its_neighbours_and_paragraphs_that_are_not_its_own(study):
    """Breaks if a distractor is the question's own paragraph, which would answer it twice, or if a joined text lacks it."""
    questions, documents = study.questions, study.documents
    for row, kind, text in zip(documents.question_D, documents.kind_D, documents.text_D):
        article = questions.articles[questions.article_Q[row]]
        own = article[questions.paragraph_Q[row]]
        expected = {
            "own": text == own,
            "long4": own in text.split("\n") and len(text.split("\n")) == 4,
            "long10": text.split("\n") == article,  # eight are all there are
            "same": text != own and text in article,
            "other": text not in article and text.startswith(tuple(NAMES)),
        }
        assert expected[ranking.KINDS[kind]], (row, kind, text)
    assert np.bincount(documents.kind_D).tolist() == [48, 24, 24, 24 * 7, 24 * 8]


@pytest.mark.parametrize(("name", "kind"), [("own", "own"), ("10 joined", "long10")])
def test_the_logits_choose_what_the_reader_answers(study, toy, name, kind):
    """Breaks if windows and texts are mixed up on their way, or if the baseline is not what the decoder does today."""
    collection, documents = study.collections[name], study.documents
    rows = np.flatnonzero(documents.kind_D == ranking.KINDS.index(kind))
    text_of = {documents.question_D[row]: documents.text_D[row] for row in rows}
    answers = Reader(toy.model, windows=WINDOWS).answer_all(
        [(study.questions.question_Q[row], text_of[row]) for row in collection.row_Q]
    )
    best = [next(entry["text"] for entry in answer["nbest"] if entry["text"]) for answer in answers]
    assert best_texts(collection, ranking.LOGITS) == best
    odds = [-answer["null_odds"] for answer in answers]
    assert FIGURES[ranking.NULL_ODDS](collection).tolist() == pytest.approx(odds, abs=1e-4)
    assert len(collection.windows.span_W) > len(answers), "some have several windows"


def test_best_scores_and_areas_are_those_of_the_scorer_and_of_counted_pairs(study):
    """Breaks if the study's fast figures, which the bootstrap needs, are not the official ones."""
    collection = study.collections["5 same"]
    once = np.ones((1, len(collection.row_Q)))
    figure_Q = FIGURES[ranking.NULL_ODDS](collection)
    f1_Q = right(collection, study.questions, ranking.LOGITS)[:, 1]
    texts = dict(zip(map(str, collection.row_Q), best_texts(collection, ranking.LOGITS)))
    golds = {str(row): study.questions.golds_Q[row] for row in collection.row_Q}
    official = squad_scores(texts, golds, dict(zip(texts, -figure_Q)))
    assert 100 * best_score(f1_Q, collection.answerable_Q, figure_Q, once)[0] == pytest.approx(official["best_f1"])

    pairs = [
        (one > other) + (one == other) / 2
        for one in figure_Q[collection.answerable_Q]
        for other in figure_Q[~collection.answerable_Q]
    ]
    assert auroc(figure_Q, collection.answerable_Q, once)[0] == pytest.approx(np.mean(pairs))


def test_the_report_has_a_finite_figure_in_every_cell(study):
    """Breaks if a quantity or a figure cannot be computed, or if a table loses a column."""
    text = ranking.report(study)
    assert all(name in text for name in (*ranking.RANKINGS, *FIGURES))
    assert "nan" not in text and "inf" not in text
    for part in text.split("\n\n"):
        assert len({line.count(" | ") for line in part.strip().splitlines() if "---" not in line}) == 1
