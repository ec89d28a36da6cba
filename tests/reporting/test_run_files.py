"""What a run's folder holds, read back; and one message for each way in which it cannot be read."""

import json

import pytest
from answered_runs import question_rows, right_answers, write_answers, write_questions

from qa_accel.reporting.run_data import GivenData, load_data
from qa_accel.reporting.run_files import read_run


@pytest.fixture
def folder(tmp_path):
    rows = question_rows(2)
    return write_answers(tmp_path / "run", write_questions(tmp_path / "dev.json", rows), right_answers(rows))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("predictions.json", "[]", "expected one JSON object"),
        ("predictions.json", '{"0-0": 1}', "a prediction is a text"),
        ("predictions.json", '{"0-0": ', "JSON"),
        ("null_odds.json", '{"0-0": "high"}', "expected a number"),
        ("null_odds.json", '{"0-0": NaN}', "expected a number"),
        ("null_odds.json", '{"0-0": true}', "expected a number"),
        ("nbest_predictions.json", '{"0-0": []}', "expected a list of answers"),
        ("nbest_predictions.json", '{"0-0": [{"text": "a"}]}', "expected a list of answers"),
        ("config.yaml", "a: [", "cannot be read as YAML"),
        ("config.yaml", "- a", "expected settings"),
        ("all_results.json", "3", "expected one JSON object"),
        ("config.json", '{"answer_policy": {"null_score_diff_threshold": "x"}}', "expected a finite number"),
    ],
)
def test_a_damaged_file_is_named_with_what_it_holds(folder, name, content, message):
    """Breaks if a traceback, or a report with wrong numbers, comes of it."""
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_run(folder)
    assert str(folder) in str(error.value)


def test_what_is_no_run_is_refused_with_what_is_expected(folder, tmp_path):
    with pytest.raises(ValueError, match="no such folder or file"):
        read_run(tmp_path / "nothing")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="not the output_dir"):
        read_run(empty)
    (empty / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match="has not been evaluated yet"):
        read_run(empty)
    (empty / "metrics.jsonl").unlink()
    (empty / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="answers in pieces"):
        read_run(empty)


def test_a_run_that_goes_on_is_read_from_its_best_model_so_far(folder):
    """Breaks if a report needs the run to have ended, or does not say that it has not."""
    best = folder / "best"
    best.mkdir()
    for name in ("predictions.json", "nbest_predictions.json", "null_odds.json"):
        (folder / name).rename(best / name)
    (best / "scores.json").write_text(json.dumps({"scores": {"f1": 50.0}, "step": 3}))
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\nnoise\n{"step": 2, "lo')
    run = read_run(folder)
    assert not run.ended and run.results == {"f1": 50.0} and len(run.predictions) == 8
    assert run.metrics == [{"step": 1, "loss": 2.0}], "the half line of a writing process is left out"


def test_data_that_were_moved_are_asked_for(folder, tmp_path):
    moved = tmp_path / "elsewhere.json"
    (tmp_path / "dev.json").rename(moved)
    run = read_run(folder)
    with pytest.raises(ValueError, match="give the file with --validation_file"):
        load_data(run, GivenData())
    data = load_data(run, GivenData((str(moved),)))
    assert len(data.ids) == 8 and data.source == "elsewhere.json"
    assert "tokenizer" in data.no_windows and data.reach is None


def test_columns_may_have_other_names(tmp_path):
    rows = [
        {"key": row["id"], **{name: row[name] for name in ("question", "context", "answers")}}
        for row in question_rows(1)
    ]
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps({row["key"]: "" for row in rows}))
    questions = write_questions(tmp_path / "dev.json", rows)
    with pytest.raises(ValueError, match="predictions alone do not name their questions"):
        load_data(read_run(path), GivenData())
    given = GivenData((str(questions),), {"id_column": "key"})
    assert load_data(read_run(path), given).ids == [row["key"] for row in rows]


@pytest.mark.parametrize(
    "line", ["max_answer_length: many", "doc_stride: '30'", "validation_file: 7", "id_column: [id]"]
)
def test_a_setting_of_another_type_is_named(folder, line):
    """Breaks if it ends in a traceback from the depth of a stage."""
    (folder / "config.yaml").write_text((folder / "config.yaml").read_text() + line + "\n")
    with pytest.raises(ValueError, match=rf"config.yaml: {line.partition(':')[0]} cannot be"):
        load_data(read_run(folder), GivenData())


@pytest.mark.parametrize("line", ["id_column: null", "a_setting_of_tomorrow: 3", "cache_dir: /proc/nowhere"])
def test_a_setting_that_is_null_unknown_or_of_another_machine_does_no_harm(folder, line):
    (folder / "config.yaml").write_text((folder / "config.yaml").read_text() + line + "\n")
    assert len(load_data(read_run(folder), GivenData()).ids) == 8


@pytest.mark.parametrize("value", ['"abc"', "[]", "NaN"])
def test_a_threshold_that_is_none_is_named(folder, value):
    (folder / "all_results.json").write_text(f'{{"null_score_diff_threshold": {value}}}')
    with pytest.raises(ValueError, match=r"all_results.json: null_score_diff_threshold is"):
        read_run(folder)


def test_a_folder_of_somebody_else_runs_no_code_and_asks_no_network(folder, tmp_path):
    """Breaks if a mailed run brings its own tokenizer class, or a missing model is looked for on the hub."""
    (folder / "config.yaml").write_text(
        (folder / "config.yaml").read_text() + "trust_remote_code: true\nlearning_rate: 1.0\n"
    )
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": [None, "evil.Evil"]}}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    trace = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(trace)!r}, 'w')\nclass Evil: pass\n")
    data = load_data(read_run(folder), GivenData())
    assert data.reach is None and "cannot be read here" in data.no_windows
    assert not trace.exists()
