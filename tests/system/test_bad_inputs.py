"""Bad inputs, each kind once; `python tests/studies/bad_inputs.py` tries all of them."""

from dataclasses import replace

from bad_input_cases import all_cases
from bad_input_cases.case import Accepted, Refused
from bad_input_cases.short import short
from bad_inputs import not_right, study


def test_no_bad_input_ends_in_a_traceback_a_hang_silence_or_a_wrong_result(tmp_path):
    """Breaks if a file, a flag, a model folder, a place, a cache or a checkpoint that cannot be used is not refused with one
    message, or if one that can be used is read wrongly. The last three cases expect what is wrong, and must be found."""
    cases = all_cases()
    by_title = {case.title: case for case in cases}
    opposite = [
        replace(by_title["data/csv, sound"], expected=Refused("data.csv")),
        replace(by_title["data/empty file"], expected=Accepted()),
        replace(by_title["data/null"], expected=Refused("no such word")),
    ]
    judgements = study([*short(cases), *opposite], tmp_path)
    wrong = not_right(judgements[: -len(opposite)])
    assert len(judgements) > 100
    assert not wrong, "\n".join(wrong)
    assert [kind for _, kind, *_ in judgements[-len(opposite) :]] == ["accepted", "refused", "unclear message"]
