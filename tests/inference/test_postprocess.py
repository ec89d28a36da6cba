"""Post-processing against a slow decoder, and its special cases worked by hand."""

import dataclasses
import json
import math
import subprocess
import sys
import tracemalloc
import unicodedata

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_decoder import Window, candidates_of, decode, windows_of

from qa_accel.bench import synthetic
from qa_accel.inference import postprocess
from qa_accel.inference.answer_files import write_answers
from qa_accel.inference.answer_lists import NULL_ODDS_WITHOUT_SPAN, Answers
from qa_accel.inference.confidence import Calibration
from qa_accel.inference.postprocess import best_answers
from qa_accel.inference.settings import SpanConfig

CONTEXT = "Paris is in France"
WORDS = {"Paris": (0, 5), "is": (6, 8), "in": (9, 11), "France": (12, 18)}


def window(null: float, **scores: float) -> Window:
    """[CLS] Paris is in France; each word's score as an answer by itself, -20 unless given; `null` that of [CLS]."""
    offsets: list[tuple[int, int] | None] = [None, *WORDS.values()]
    start_logits = [null] + [scores.get(word, -20.0) for word in WORDS]
    return Window(offsets, start_logits, [0.0] + [0.0 if word in scores else -20.0 for word in WORDS])


def answers_to(
    *questions: list[Window],
    context: str = CONTEXT,
    negative: bool = True,
    count: int | None = None,
    calibration: Calibration | None = None,
    **config,
) -> Answers:
    settings = SpanConfig(**config)
    return best_answers(
        Dataset.from_dict({"id": [f"q{row}" for row in range(len(questions))], "context": [context] * len(questions)}),
        windows_of(list(questions)),
        candidates_of(
            list(questions), count=count or settings.n_best_size, max_answer_length=settings.max_answer_length
        ),
        settings,
        version_2_with_negative=negative,
        calibration=calibration,
    )


@st.composite
def contexts_with_windows(draw, blanks: bool) -> tuple[str, list[Window]]:
    """Overlapping windows over some words; logits are multiples of a half, so that many scores are equal."""
    words = draw(st.lists(st.sampled_from(["a", "bc", "é", "e\u0301", "😀"]), max_size=9))
    gaps = draw(st.lists(st.sampled_from([" ", "\n", "\u00a0"]), min_size=len(words), max_size=len(words)))
    context, offsets = "", []
    for word, gap in zip(words, gaps):
        # With blanks, a token may begin with the blank before its word, or be nothing but a blank.
        begins_with_blank = blanks and draw(st.booleans())
        if blanks and draw(st.booleans()):
            offsets.append((len(context), len(context) + 1))
        offsets.append((len(context) + (not begins_with_blank), len(context) + 1 + len(word)))
        context += gap + word
    size = draw(st.integers(1, 6))
    step = draw(st.integers(1, size))
    logit = st.integers(-6, 6).map(lambda halves: halves / 2)
    windows = []
    for begin in range(0, max(1, len(offsets)), step):
        tokens = [None, None, *offsets[begin : begin + size], None]
        logits = [draw(st.lists(logit, min_size=len(tokens), max_size=len(tokens))) for _ in range(2)]
        windows.append(Window(tokens, *logits, null=draw(st.sampled_from([0, len(tokens) - 1]))))
    return context, windows


@settings(max_examples=150)
@given(
    st.booleans().flatmap(lambda blanks: st.lists(contexts_with_windows(blanks), min_size=1, max_size=3)),
    st.integers(1, 6),
    st.integers(1, 4),
    st.sampled_from([-1.5, 0.0, 2.0]),
    st.booleans(),
)
def test_answers_are_those_of_the_slow_decoder(cases, n_best, max_answer_length, threshold, negative):
    """Breaks if spans of one question meet another's, a window's own n best are not enough, or equal scores change
    places; `cases` hold several windows, equal scores and repeated spans."""
    questions = Dataset.from_dict(
        {"id": [str(row) for row in range(len(cases))], "context": [context for context, _ in cases]}
    )
    windows = [windows for _, windows in cases]
    # Blanks may use up a window's n best, so that the slow decoder, which looks further, is met only by all spans.
    everything = candidates_of(windows, count=60, max_answer_length=max_answer_length)
    config = SpanConfig(n_best, max_answer_length, threshold)
    found = best_answers(questions, windows_of(windows), everything, config, version_2_with_negative=negative)
    for row, (context, own) in enumerate(cases):
        expected = decode(
            context,
            own,
            n_best=n_best,
            max_answer_length=max_answer_length,
            threshold=threshold,
            has_unanswerable=negative,
        )
        key, nbest = str(row), found.nbest[str(row)]
        assert (found.predictions[key], found.best_texts[key]) == (expected.text, expected.best_text)
        assert found.null_odds[key] == (
            NULL_ODDS_WITHOUT_SPAN if expected.null_odds is None else pytest.approx(expected.null_odds)
        )
        assert [entry["text"] for entry in nbest] == [text for text, _ in expected.nbest]
        assert [entry["probability"] for entry in nbest] == pytest.approx([value for _, value in expected.nbest])
        assert all(context[entry["start"] : entry["end"]] == entry["text"] for entry in nbest)


@settings(max_examples=50)
@given(
    st.lists(contexts_with_windows(True), min_size=1, max_size=6),
    st.integers(1, 3),
    st.sampled_from([None, Calibration(2.0, 0.5, 1.0)]),
    st.booleans(),
)
def test_chunks_of_any_size_give_the_same_answers(cases, chunk, calibration, negative):
    """The chunk that holds all is compared with the slow decoder above. Breaks if a chunk reads windows, spans or contexts of
    its neighbour, or if the pass that only decides decides otherwise than the one that lists."""
    questions = Dataset.from_dict(
        {"id": [str(row) for row in range(len(cases))], "context": [context for context, _ in cases]}
    )
    windows = [windows for _, windows in cases]
    found = []
    for size in (chunk, 10**6):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(postprocess, "CHUNK", size)
            config, candidates = SpanConfig(4, 3), candidates_of(windows, count=60, max_answer_length=3)
            options: dict = dict(version_2_with_negative=negative, calibration=calibration)
            found.append(best_answers(questions, windows_of(windows), candidates, config, **options))
    assert found[0] == found[1]
    assert list(found[0].nbest) == list(found[0].predictions) == questions["id"][:]
    for key, entries in found[0].nbest.items():
        spans = [entry for entry in entries if entry["text"]]
        assert found[0].best_texts[key] == (spans[0]["text"] if spans else "")
        if calibration is not None:
            [of_prediction] = [e["confidence"] for e in entries if e["text"] == found[0].predictions[key]][:1]
            assert found[0].confidences[key] == of_prediction


def test_answers_take_little_memory_beside_the_candidates(monkeypatch, tmp_path):
    """In bytes that Python has allocated, after the answers are made and at the most while their files are written: 13,000 a
    question while n-best lists were kept. Breaks if lists, contexts or a whole file's text are in memory for all questions."""
    monkeypatch.setattr(postprocess, "CHUNK", 50)
    peaks = []
    for count in (500, 2500):
        windows = synthetic.squad_like_windows(count, 30_000)
        questions, candidates = synthetic.random_answers(windows)
        tracemalloc.start()
        found = best_answers(questions, windows, candidates, SpanConfig(), version_2_with_negative=True)
        write_answers(found, tmp_path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert 100 < (peaks[1] - peaks[0]) / 2000 < 600


@settings(max_examples=100)
@given(contexts_with_windows(blanks=False), st.integers(1, 4), st.integers(1, 4))
def test_the_n_best_of_each_window_are_enough(case, n_best, max_answer_length):
    """Breaks if a question's n best needed a span that is not among the n best of any of its windows."""
    context, windows = case
    few, all_spans = (
        answers_to(windows, context=context, count=count, n_best_size=n_best, max_answer_length=max_answer_length)
        for count in (n_best, 60)
    )
    assert few == all_spans


@pytest.mark.parametrize("word", ["cafe\u0301", "\u0e2a\u0e35\u0e48", "\u0932\u0935\u0947"])
def test_an_answer_ends_behind_the_marks_of_its_last_character(word):
    """French in decomposed form, Thai, Hindi. A tokenizer that strips accents gives the token the letters' places alone.
    Breaks if half a character is answered, which no gold answer equals, or if the same answer comes twice."""
    letters = next(n for n in range(len(word), 0, -1) if not unicodedata.category(word[n - 1]).startswith("M"))
    context = f"a {word} b"
    short = Window([None, (2, 2 + letters)], [0.0, 5.0], [0.0, 5.0])
    whole = Window([None, (2, 2 + len(word))], [0.0, 4.0], [0.0, 4.0])
    found = answers_to([short, whole], context=context)
    assert found.predictions["q0"] == word
    assert [entry["text"] for entry in found.nbest["q0"]] == [word, ""]
    assert all(context[entry["start"] : entry["end"]] == entry["text"] for entry in found.nbest["q0"])


def test_null_wins_only_if_every_window_prefers_it():
    """Breaks if the null score is the maximum, the mean, or the first window's."""
    sure_of_null, found_paris = window(null=5, Paris=3), window(null=1, Paris=4)
    found = answers_to([sure_of_null], [sure_of_null, found_paris], [found_paris, sure_of_null])
    assert found.predictions == {"q0": "", "q1": "Paris", "q2": "Paris"}
    assert found.null_odds == {"q0": 5 - 3, "q1": 1 - 4, "q2": 1 - 4}
    assert found.best_texts["q0"] == "Paris"


def test_the_empty_answer_needs_null_odds_above_the_threshold():
    """Breaks with >= for >; and if a threshold changed anything but the prediction."""
    undecided = [window(null=4, France=2)]  # null odds 2
    below, at, above = (answers_to(undecided, null_score_diff_threshold=t) for t in (1.9, 2.0, 2.1))
    assert [found.predictions["q0"] for found in (below, at, above)] == ["", "France", "France"]
    assert below.nbest == at.nbest and below.null_odds == at.null_odds and below.best_texts == at.best_texts


def test_without_unanswerable_questions_the_best_span_answers_whatever_the_null_score():
    """Breaks if SQuAD v1.1 data is answered with "", or the n-best list holds an answer that cannot be right."""
    found = answers_to([window(null=50, France=2)], negative=False)
    assert found.predictions == {"q0": "France"}
    assert "" not in [entry["text"] for entry in found.nbest["q0"]]
    assert sum(entry["probability"] for entry in found.nbest["q0"]) == pytest.approx(1)


@pytest.mark.parametrize("negative", [True, False])
def test_a_question_without_a_valid_span_is_answered_with_nothing(negative, tmp_path):
    """Breaks if a text is invented, a question is left out, or infinity is in the files; the neighbour is untouched."""
    nothing = Window([None, None], [-3.0, 0.0], [-3.0, 0.0])
    found = answers_to([nothing], [window(null=0, Paris=3)], negative=negative, null_score_diff_threshold=1e12)
    empty = {"text": "", "probability": 1.0, "score": 1.0, "start_logit": -3.0, "end_logit": -3.0, "start": 0, "end": 0}
    assert found.nbest["q0"] == [empty]
    assert found.predictions == {"q0": "", "q1": "Paris"}
    assert found.best_texts["q0"] == "" and found.null_odds["q0"] == NULL_ODDS_WITHOUT_SPAN
    write_answers(found, tmp_path)
    assert math.isfinite(json.loads((tmp_path / "null_odds.json").read_text())["q0"])


def test_a_span_in_two_windows_is_listed_once_with_its_better_score():
    """Breaks if spans are distinguished by token positions, or the first window's score is kept: here the second's is best,
    and the same word is at another place of it."""
    first = window(null=0, Paris=1, France=0.5)
    second = Window([None, None, WORDS["France"]], [0, -20, 3.0], [0, -20, 0.25])
    found = answers_to([first, second], n_best_size=2, max_answer_length=1)
    spans = [(entry["text"], entry["start_logit"], entry["end_logit"]) for entry in found.nbest["q0"] if entry["text"]]
    assert spans == [("France", 3.0, 0.25), ("Paris", 1.0, 0.0)]


def test_equal_scores_go_to_the_earlier_start_then_to_the_earlier_end():
    """Breaks if the order depends on window order or on the sort; all spans of the two windows score 0."""
    later, earlier = ([None, *list(WORDS.values())[begin : begin + 2]] for begin in (2, 0))
    found = answers_to([Window(offsets, [0.0] * 3, [0.0] * 3) for offsets in (later, earlier)], negative=False)
    assert [entry["text"] for entry in found.nbest["q0"]] == ["Paris", "Paris is", "is", "in", "in France", "France"]


def test_probabilities_are_a_softmax_over_the_listed_spans_and_the_empty_answer():
    """Breaks if spans that are not listed weigh, or the null score does not. Scores ln 3, 0 and null ln 2: 3 : 1 : 2."""
    words = window(null=math.log(2), Paris=math.log(3), France=0.0, **{"is": -0.5})
    found = answers_to([words], n_best_size=2, max_answer_length=1)
    listed = {entry["text"]: entry["probability"] for entry in found.nbest["q0"]}
    assert list(listed) == ["Paris", "", "France"]
    assert listed == pytest.approx({"Paris": 3 / 6, "": 2 / 6, "France": 1 / 6}, rel=1e-6)


def test_probabilities_are_finite_for_logits_of_any_size():
    """Breaks if exp is taken of a score itself, which overflows from 710 on."""
    found = answers_to([window(null=-5000, Paris=4000, France=3999)], n_best_size=2, max_answer_length=1)
    total = 1 + math.exp(-1)
    assert [entry["probability"] for entry in found.nbest["q0"]] == pytest.approx([1 / total, math.exp(-1) / total, 0])


def test_blanks_at_the_edges_are_left_off_and_blanks_alone_are_not_an_answer():
    """Breaks for tokenizers whose offsets take in the blank before a word: " Paris" would be an answer next to "Paris",
    and a line break the best one."""
    context = "In \n Paris"
    offsets = [None, (0, 2), (2, 5), (4, 10), (5, 10), (5, 5)]  # "In", blanks, " Paris", "Paris", a token without text
    start_logits = [0.0, -9.0, 5.0, 3.0, 2.0, 9.0]
    end_logits = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    found = answers_to([Window(offsets, start_logits, end_logits)], context=context, max_answer_length=1)
    assert found.predictions["q0"] == "Paris"
    assert [(entry["text"], entry["start"], entry["start_logit"]) for entry in found.nbest["q0"]] == [
        ("Paris", 5, 3.0),
        ("", 0, 0.0),
        ("In", 0, -9.0),
    ]


def test_a_score_is_the_product_of_two_softmaxes_over_the_windows_context_and_null_position():
    """Worked out by hand: in the first window e^start is 1 (null), 3 and 4, e^end 2 (null), 1 and 1; in the second 7 (null)
    and 1, 1 (null) and 1. Breaks if the question's tokens count, if windows share a sum, or if null is left out."""
    log = math.log
    first = Window([None, None, WORDS["Paris"], WORDS["is"]], [0, 9, log(3), log(4)], [log(2), 9, 0, 0])
    second = Window([None, WORDS["France"]], [log(7), 0], [0, 0])
    found = answers_to([first, second], max_answer_length=1)
    listed = {entry["text"]: entry["score"] for entry in found.nbest["q0"]}
    assert listed == pytest.approx(
        {
            "Paris": 3 / 8 * 1 / 4,
            "is": 4 / 8 * 1 / 4,
            "France": 1 / 8 * 1 / 2,
            "": min(1 / 8 * 2 / 4, 7 / 8 * 1 / 2),
        },
        rel=1e-6,
    )


def test_an_answer_has_at_most_max_answer_length_tokens():
    """Breaks if the limit is one off or counts characters. "Paris is in" (3 tokens) is the best span by far."""
    offsets = [None, *WORDS.values()]
    long_answer = [Window(offsets, [0, 9, 0, 1, 0], [0, 0, 1, 9, 0])]
    best = [answers_to(long_answer, max_answer_length=length).best_texts["q0"] for length in (2, 3)]
    assert best == ["Paris is", "Paris is in"]  # 9 + 1 is equal for "is in", which starts later


def test_offsets_count_characters_also_after_astral_and_combining_ones():
    """Breaks if bytes or UTF-16 units are counted."""
    context = "😀 cafe\u0301 ok"
    offsets = [None, (0, 1), (2, 7), (8, 10)]
    found = answers_to([Window(offsets, [0, 0, 5, 0], [0, 0, 5, 0])], context=context)
    assert found.predictions["q0"] == "cafe\u0301"


def test_logits_stay_the_float32_that_they_were():
    """Breaks if scores are rounded or pass through half precision."""
    found = answers_to([window(null=0, Paris=0.1)])
    assert found.nbest["q0"][0]["start_logit"] == float(np.float32(0.1)) != 0.1


def test_a_logit_that_is_not_a_number_is_an_error_that_names_the_question():
    """Breaks if overflow in half precision became a silent order of spans, or "NaN" in a file."""
    for broken in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="'q1'"):
            answers_to([window(null=0, Paris=3)], [window(null=0, Paris=broken)])
        with pytest.raises(ValueError, match="'q1'"):
            answers_to([window(null=0, Paris=3)], [window(null=broken, Paris=3)])


def test_files_are_plain_indented_json_and_the_same_each_time(tmp_path):
    """Breaks if the faster way to the n-best file differs by a byte from `json.dumps`; the context imitates its seams."""
    context = 'a "},\n      {" é😀\\'
    offsets = [None, (0, 1), (2, len(context))]
    found = answers_to([Window(offsets, [0, 1, 2], [0, 1, 2])], [Window([None], [0], [0])], context=context)
    write_answers(found, tmp_path)
    for name, content in (
        ("predictions.json", found.predictions),
        ("nbest_predictions.json", dict(found.nbest)),
        ("null_odds.json", found.null_odds),
    ):
        written = (tmp_path / name).read_bytes()
        assert written.decode() == json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_answers(found, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert sorted(before) == ["nbest_predictions.json", "null_odds.json", "predictions.json"]


def test_a_disk_that_fills_up_leaves_the_previous_files_and_no_others(tmp_path, repository):
    """Breaks if a file is written under its own name, or the first is renamed before the last is written. The limit on
    a file's size simulates a full disk: predictions.json would fit, nbest_predictions.json does not."""
    write_answers(Answers({"q": "old"}, {"q": "old"}, {"q": 0.0}, {"q": []}), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    program = f"""
import resource
from qa_accel.inference.answer_files import write_answers
from qa_accel.inference.postprocess import Answers
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
entry = dict(text="new", probability=1.0, start_logit=0.0, end_logit=0.0, start=0, end=3)
write_answers(Answers({{"q": "new"}}, {{"q": "new"}}, {{"q": 1.0}}, {{"q": [entry] * 1000}}), {str(tmp_path)!r})
"""
    run = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True)
    assert run.returncode == 1 and "OSError" in run.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_post_processing_imports_no_torch(repository):
    """Breaks if rank 0's decoder, which scripts without a model use too, takes torch's seconds to import."""
    program = "import sys, qa_accel.inference.postprocess; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], cwd=repository, check=True)


@pytest.mark.parametrize(
    ("setting", "value"), [("n_best_size", 0), ("max_answer_length", 0), ("null_score_diff_threshold", float("nan"))]
)
def test_settings_out_of_range_are_refused_by_name(setting, value):
    with pytest.raises(ValueError, match=setting):
        dataclasses.replace(SpanConfig(), **{setting: value})
