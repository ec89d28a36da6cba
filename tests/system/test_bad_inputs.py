"""Bad inputs, each kind once; `python tests/studies/bad_inputs.py` tries all of them."""

from bad_input_cases import all_cases
from bad_input_cases.short import short
from bad_inputs import not_right, study


def test_no_bad_input_ends_in_a_traceback_a_hang_silence_or_a_wrong_result(tmp_path):
    """Breaks if a file, a flag, a model folder, a place, a cache or a checkpoint that cannot be used is not refused with one
    message, or if one that can be used is read wrongly."""
    judgements = study(short(all_cases()), tmp_path)
    wrong = not_right(judgements)
    assert len(judgements) > 100
    assert not wrong, "\n".join(wrong)
