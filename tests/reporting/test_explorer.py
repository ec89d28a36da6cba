"""A judged run -> the questions embedded in its report: which ones, what is said of them, how much of their contexts."""

from dataclasses import replace
from itertools import pairwise

import pytest
from answered_runs import question_rows, right_answers, write_answers, write_questions

from qa_accel.reporting import contents, explorer
from qa_accel.reporting.html_page import render
from qa_accel.reporting.judged_run import JudgedRun, judge
from qa_accel.reporting.page_data import explorer_data, script_bytes
from qa_accel.reporting.passages import MOST_CHARACTERS, Passage
from qa_accel.reporting.run_data import GivenData, load_data
from qa_accel.reporting.run_files import read_run


def judged(folder) -> JudgedRun:
    files = read_run(folder)
    return judge(files, load_data(files, GivenData()))


def answered(folder, rows, wrong=(), **settings) -> JudgedRun:
    """Right, but for questions with these ids: they are answered with "was"."""
    answers = right_answers(rows) | {key: ("was", -3.0) for key in wrong}
    return judged(write_answers(folder / "run", write_questions(folder / "dev.json", rows), answers, settings=settings))


def with_filler(rows, filler: str):
    """Each context of its own, with so much more behind it."""
    return [row | {"context": f"{row['context']} {row['id']} {filler}"} for row in rows]


def test_errors_are_embedded_first_whatever_their_place_in_the_data(tmp_path):
    """400 questions of about 3,000 characters, of which a third fit; the 75 wrong ones are at the end of the data.
    Breaks if the size cuts them, or the text claims what is not there."""
    rows = with_filler(question_rows(100), "word " * 700)
    wrong = [row["id"] for row in rows[-75:]]
    held = explorer.explorer(answered(tmp_path, rows, wrong))
    embedded = [question["id"] for question in held.questions]
    assert set(embedded[:75]) == set(wrong) and 150 < len(embedded) < 350
    right = sorted(question["row"] for question in held.questions[75:])
    gaps = [after - before for before, after in pairwise(right)]
    assert right[0] < 5 and right[-1] > 315 and max(gaps) < 8, "right ones are from all over the data"
    assert held.chosen == (
        f"{len(embedded)} of 400 questions: all 75 wrong answers and {len(embedded) - 75} of 325 right ones from all over the data."
    )


def test_of_many_errors_the_most_confident_of_every_kind_are_embedded_and_counted(tmp_path):
    """1,000 questions, 600 wrong. Breaks if right answers are not seen at all, or confidences are claimed that nobody knows."""
    rows = question_rows(250)
    run = answered(tmp_path, rows, [row["id"] for row in rows[:600]])
    held = explorer.explorer(run)
    wrong = run.analysis.kinds.keys() - {"right"}
    kinds = [question["kind"] for question in held.questions]
    assert len(kinds) == 500 and kinds.count("right") == 100
    assert set(kinds) - {"right"} == {kind for kind in wrong if run.analysis.kinds[kind]}
    said = "500 of 1,000 questions: 400 of 600 wrong answers of every kind{} and 100 of 400 right ones from all over the data."
    assert held.chosen == said.format(" (the most confident first)")
    assert explorer.errors_first(replace(run, confidence_Q=None)).in_words(range(500)).count("confident") == 0


def test_the_size_is_that_of_the_page_whatever_the_script(tmp_path):
    """Chinese has three bytes a character in the page and six in ASCII's JSON; markup has six in the page and one in plain JSON.
    Breaks if half of what fits is left out, or twice as much as fits is embedded."""
    for name, filler, bytes_of_each in (("chinese", "龍" * 2500, 7500), ("markup", "<" * 2500, 15000)):
        rows = with_filler(question_rows(100), filler)
        (tmp_path / name).mkdir()
        held = explorer.explorer(answered(tmp_path / name, rows))
        size = script_bytes(explorer_data(held))
        assert explorer.MOST_BYTES - 2 * bytes_of_each < size < explorer.MOST_BYTES + 5_000, name


def test_embedded_places_read_the_texts_that_they_mark(tmp_path):
    rows = question_rows(20)
    held = explorer.explorer(answered(tmp_path, rows, ["3-0", "4-1"]))
    assert len(held.questions) == 80 and held.chosen == "All 80 questions."
    for question in held.questions:
        context = held.contexts[question["context"]]
        assert question["left_out"] == []
        for start, end, text in question["gold"]:
            assert context[start:end] == text
        if question["predicted"]["text"]:
            assert (
                context[question["predicted"]["start"] : question["predicted"]["end"]] == question["predicted"]["text"]
            )


def test_of_a_long_context_the_parts_around_every_span_are_embedded(tmp_path):
    """The answer is at the beginning of 240,000 characters, two gold answers are far behind it, one of them with 5,000 characters.
    Breaks if a known place is called unknown, or a place is not moved by what is left out before it."""
    rows = question_rows(2)
    filler = "".join(f"Nothing of {number} is here. " for number in range(4000))
    for row in rows:
        row["context"] += filler + "Gold is here. " + filler + "The last." + row["id"]
        if row["answers"]["text"]:
            long = "Nothing of 3000 is here. " + "Nothing".join(
                filler.split("Nothing of 3000 is here. ")[1].split("Nothing")[:200]
            )
            texts = ["Gold", long]
            row["answers"] = {"text": texts, "answer_start": [row["context"].index(text) for text in texts]}
    answers = {row["id"]: ("1903", -4.0) for row in rows}
    run = judged(write_answers(tmp_path / "run", write_questions(tmp_path / "dev.json", rows), answers))
    held = explorer.explorer(run)
    assert len(held.questions) == 8
    for question in held.questions:
        shown, whole = held.contexts[question["context"]], rows[question["row"]]["context"]
        assert MOST_CHARACTERS - 20 < len(shown) <= MOST_CHARACTERS
        assert len(shown) + sum(count for _, count in question["left_out"]) == len(whole)
        again, before = "", 0
        for place, count in question["left_out"]:
            again += shown[before:place]
            assert whole.startswith(again), "what is left out is left out at its place"
            again, before = whole[: len(again) + count], place
        assert again + shown[before:] == whole
        predicted = question["predicted"]
        assert shown[predicted["start"] : predicted["end"]] == "1903"
        if question["gold"]:
            (start, end, text), (long_start, long_end, _) = question["gold"]
            assert shown[start:end] == text == "Gold"
            assert shown[long_start:].startswith("Nothing of 3000 is") and shown[:long_end].endswith("here. ")
            assert any(long_start < place < long_end for place, _ in question["left_out"]), "its middle is left out"
    assert len(render(contents.report(run, {})).encode()) < 6_000_000


def test_places_are_moved_by_what_is_left_out_before_them():
    """Characters 0 to 100 and 400 to 500 are shown. By hand: a window 50 to 450 is 50 to 150 there; 200 to 300 is not there."""
    passage = Passage("a" * 1000, [(0, 100), (400, 500)])
    assert [passage.place(place) for place in (0, 50, 100, 250, 400, 450, 500, 1000)] == [
        0,
        50,
        100,
        100,
        100,
        150,
        200,
        200,
    ]
    assert passage.left_out == [[100, 300], [200, 500]]
    assert passage.span(90, 100) == [90, 100] and passage.span(400, 410) == [100, 110]
    assert passage.span(90, 410) == [90, 110] and passage.span(200, 250) == passage.span(450, 501) == [None, None]


def test_where_every_question_has_an_answer_null_odds_decide_nothing_and_are_not_embedded(tmp_path):
    """Breaks if the page asks "Is there an answer?" of data of version 1.1."""
    rows = [row for row in question_rows(2) if row["answers"]["text"]]
    held = explorer.explorer(answered(tmp_path, rows, version_2_with_negative=False))
    assert held.threshold is None and {question["null_odds"] for question in held.questions} == {None}


def test_of_two_runs_what_they_score_differently_comes_first_and_is_counted(tmp_path):
    """1,000 questions: the one run has 30 wrong at the end, the other 20 at the beginning."""
    rows = question_rows(250)
    ids = [row["id"] for row in rows]
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    one, other = answered(tmp_path / "a", rows, ids[-30:]), answered(tmp_path / "b", rows, ids[:20])
    held = explorer.explorer(one, other)
    flips = [question["flip"] for question in held.questions]
    assert flips[:4] == ["better", "worse"] * 2 and (flips.count("better"), flips.count("worse")) == (20, 30)
    assert held.chosen == (
        "500 of 1,000 questions: all 50 questions that the two runs score differently and 450 of 950 others from all over the data."
    )
    assert all("null_odds" not in question["other"] for question in held.questions)


@pytest.mark.parametrize("count", [1, 2, 7, 50, 1000])
def test_every_beginning_of_a_scattered_order_is_spread_over_all(count):
    """Breaks if the rows that are cut off by size are those at the end of the data."""
    order = explorer.scattered(range(count))
    assert sorted(order) == list(range(count))
    for some in (order[: count // 3], order[: count // 2]):
        if len(some) > 5:
            gaps = [after - before for before, after in pairwise(sorted(some))]
            assert max(gaps) <= 3 * count / len(some)


def test_the_worst_data_make_a_page_below_six_megabytes(tmp_path):
    """600 questions in which every text is long and of characters that are six bytes in the page. Breaks if one of the texts that
    a page repeats has no limit: titles are in each question, in the lists of filters and in tables."""
    rows = question_rows(150)
    for place, row in enumerate(rows):
        row["title"] = f"{place // 12}" + "&" * 60_000
        row["id"] += "<" * 5_000
        row["question"] = "&" * 5_000 + row["question"]
        row["context"] += " " + "<" * 1_000 + f"{place} was" + ">" * 40_000
    report = contents.report(answered(tmp_path, rows, [row["id"] for row in rows[::3]]), {})
    assert len(render(report).encode()) < 6_000_000
    assert report.explorer is not None and len(report.explorer.questions) > 30
