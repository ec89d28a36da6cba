"""Files that `predict` answers, and folders that --dataset_name names."""

import json
from pathlib import Path
from typing import Any

import datasets

from bad_input_cases.case import Accepted, Case, Check, Either, Expected, Place, Refused, both, report_has, says
from bad_input_cases.data_files import as_json
from bad_input_cases.data_layouts import BRIDGE, BY_HOLT, HEADER, WHEN, WHO, row


def predict_case(name: str, rows: list[Any], check: Check, **settings: Any) -> Case:
    def make(place: Place):
        place.path("data.json").write_bytes(as_json(rows))
        return place.predict(test_file="data.json", cache_dir=place.cache, **settings)

    return Case("data", name, make, Accepted(check))


def predictions() -> list[Case]:
    blank = row("2", "What did it cost?", [{"text": "", "answer_start": 0}])

    def counts(place: Place, output: str) -> str | None:
        found = json.loads((place.output / "all_results.json").read_text()).get("NoAns_total")
        return None if found == 1 else f"NoAns_total {found} in place of 1"

    def answers_nothing(place: Place, output: str) -> str | None:
        return None if "never" not in output else "the data counts as v1.1, without unanswerable questions"

    long = row("1", WHO, [{"text": ("word " * 40).strip(), "answer_start": 0}], "word " * 40 + "end.")
    return [
        predict_case("a blank gold answer (predict)", [row("1", WHO, [BY_HOLT]), blank], both(counts, answers_nothing)),
        predict_case("a gold answer over max_answer_length (predict)", [long], says("max_answer_length")),
        predict_case(
            "threshold inf (predict)", [row("1", WHO, [BY_HOLT])], report_exists, null_score_diff_threshold="inf"
        ),
        predict_case(
            "threshold -inf (predict)", [row("1", WHO, [BY_HOLT])], report_exists, null_score_diff_threshold="-inf"
        ),
        predict_case(
            "threshold inf, negatives (predict)", [row("1", WHO, [])], report_exists, null_score_diff_threshold="inf"
        ),
        predict_case("one question (predict)", [row("1", WHO, [BY_HOLT])], report_exists),
        predict_case("no gold answers (predict)", [{"id": "1", "question": WHO, "context": BRIDGE}], no_scores),
    ]


def report_exists(place: Place, output: str) -> str | None:
    names = ("predictions.json", "nbest_predictions.json", "null_odds.json", "all_results.json", "config.yaml")
    missing = [name for name in names if not (place.output / name).is_file()]
    return f"{', '.join(missing)} missing" if missing else None


def no_scores(place: Place, output: str) -> str | None:
    return "scores without gold answers" if (place.output / "all_results.json").exists() else None


def folder_case(name: str, fill: Any, expected: Expected) -> Case:
    """`fill(folder)` makes what --dataset_name gets."""

    def make(place: Place):
        fill(place.path("set"))
        return place.prepare(dataset_name="set")

    return Case("data", name, make, expected)


def saved(folder: Path, **splits: Any) -> None:
    rows = [row("1", WHO, {"text": ["Dana Holt"], "answer_start": [39]})]
    made = {name: datasets.Dataset.from_list(given or rows) for name, given in splits.items()}
    datasets.disable_progress_bars()
    datasets.DatasetDict(made).save_to_disk(str(folder))


def damaged(name: str, content: bytes) -> Any:
    def fill(folder: Path) -> None:
        saved(folder, train=None)
        [path] = folder.rglob(name) if "*" not in name else list(folder.rglob(name))[:1]
        path.write_bytes(content)

    return fill


def csv_folder(folder: Path) -> None:
    folder.mkdir()
    lines = f"{HEADER}\n007,{WHO},{BRIDGE},Dana Holt,39\n008,{WHEN},{BRIDGE},1931,31\n"
    (folder / "train.csv").write_text(lines)


def ids_kept(place: Place, output: str) -> str | None:
    """A row per question with its id would be best; the predictions of such a folder must carry the ids of its file."""
    found = json.loads((place.output / "predictions.json").read_text())
    return None if list(found) == ["007", "008"] else f"ids became {list(found)}"


def folders() -> list[Case]:
    def predict_csv(place: Place):
        csv_folder(place.path("set"))
        (place.path("set") / "train.csv").rename(place.path("set") / "test.csv")
        return place.predict(test_file=None, dataset_name="set", cache_dir=place.cache)

    one = Accepted(report_has(questions=1, misplaced_answers=0, windows_with_answer=1))
    named = Refused("set")
    return [
        folder_case("a saved data set", lambda folder: saved(folder, train=None), one),
        folder_case("a saved data set without train", lambda folder: saved(folder, other=None), Refused("set", "train")),
        folder_case("a saved data set of other columns", lambda folder: saved(folder, train=[{"a": 1}]), Refused("set", "'id'")),
        folder_case("a missing folder", lambda folder: None, named),
        folder_case("an empty folder", lambda folder: folder.mkdir(), named),
        folder_case("a file in place of the folder", lambda folder: folder.write_text("x"), named),
        folder_case("dataset_dict.json broken", damaged("dataset_dict.json", b"{"), named),
        folder_case("dataset_dict.json empty object", damaged("dataset_dict.json", b"{}"), named),
        folder_case("dataset_dict.json a list", damaged("dataset_dict.json", b"[]"), named),
        folder_case("dataset_dict.json deep", damaged("dataset_dict.json", b"[" * 100_000), named),
        folder_case("state.json empty object", damaged("state.json", b"{}"), named),
        folder_case("dataset_info.json broken", damaged("dataset_info.json", b"{"), named),
        folder_case("the Arrow file cut", damaged("*.arrow", b"ARROW1"), named),
        folder_case("the Arrow file empty", damaged("*.arrow", b""), named),
        folder_case("the Arrow file random", damaged("*.arrow", bytes(range(256)) * 9), named),
        Case("data", "a folder of csv with ids 007", predict_csv, Either(ids_kept, ("set", "--test_file"))),
    ]  # fmt: skip


def cases() -> list[Case]:
    return predictions() + folders()
