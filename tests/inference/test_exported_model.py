"""An exported folder answers as the model that it was exported from: from Python without torch, and in predict.py."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from processes import Left, run
from speed import scaled
from toy import WINDOWS, flags

from qa_accel import Reader, config
from qa_accel.commands import export, predict
from qa_accel.data.settings import WindowConfig
from qa_accel.distributed import entry
from qa_accel.inference.answer_policy import CONFIG_KEY

POLICY = {"null_score_diff_threshold": 0.125, "temperature": 1.5, "null_odds_weight": 0.2, "null_odds_bias": 0.1}
LOGITS = ("start_logit", "end_logit")


def script(name: str, words: list[str]) -> None:
    module: Any = {"export": export, "predict": predict}[name]
    entry.main(lambda: module.run(config.parse(module.Config, words)))


def started(name: str, cache: Path, processes: int = 1, **settings: Any) -> Left:
    usual = dict(cache_dir=cache, per_device_eval_batch_size=8, **WINDOWS)
    return run(script, name, flags(**usual | settings), processes=processes)[0]


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def source(toy, tmp_path_factory) -> Path:
    """The toy's model with an answer policy."""
    folder = tmp_path_factory.mktemp("source") / "model"
    shutil.copytree(toy.model, folder)
    (folder / "config.json").write_text(json.dumps(read(folder / "config.json") | {CONFIG_KEY: POLICY}))
    return folder


@pytest.fixture(scope="module")
def exported(source, cache, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "graph"
    left = started("export", cache, model_name_or_path=source, output_dir=folder)
    assert left.code == 0, left.output
    assert "Warning" not in left.output and "torch.onnx" not in left.output and "[96m" not in left.output, left.output
    return folder


def copy_of(exported: Path, folder: Path) -> Path:
    shutil.copytree(exported, folder)
    return folder


def pairs_of(file: Path) -> dict[str, tuple[str, str]]:
    paragraphs = read(file)["data"][0]["paragraphs"]
    return {row["id"]: (row["question"], part["context"]) for part in paragraphs for row in part["qas"]}


def rounded(found: Any) -> Any:
    """Numbers with as many places as fp32 products in another order leave equal."""
    if isinstance(found, dict):
        return {key: rounded(value) for key, value in found.items()}
    if isinstance(found, list):
        return list(map(rounded, found))
    return pytest.approx(found, abs=2e-4) if isinstance(found, float) else found


WITHOUT_TORCH = """
import json, sys
from qa_accel import Reader
from qa_accel.data.settings import WindowConfig

folder, windows, pairs = json.loads(sys.argv[1])
reader = Reader(folder, backend="onnx", windows=WindowConfig(**windows))
question, context = pairs[0]
found = {
    "answer_all": reader.answer_all([tuple(pair) for pair in pairs]),
    "call": reader(question=question, context=context, top_k=3, handle_impossible_answer=True),
    "rank": reader.rank(question, [context for _, context in pairs[:3]]),
}
print(json.dumps([found, [name for name in ("torch", "accelerate", "datasets", "onnx") if name in sys.modules]]))
"""


def test_a_reader_answers_as_torch_does_and_imports_no_torch(toy, source, exported):
    """In a process of its own. Breaks if one import of the way leads to torch, or any number of an answer differs by more than
    rounding: n-best lists, null odds, confidences, the ranking of documents."""
    pairs = [*pairs_of(toy.dev).values()][:12]
    arguments = json.dumps([str(exported), WINDOWS, pairs])
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, arguments],
        capture_output=True,
        text=True,
        timeout=scaled(120),
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "nothing is said where nothing is wrong"
    found, modules = json.loads(done.stdout)
    assert modules == []
    reader = Reader(source, windows=WindowConfig(**WINDOWS), device="cpu")
    question, context = pairs[0]
    assert found["answer_all"] == rounded(reader.answer_all(pairs))
    assert found["call"] == rounded(reader(question=question, context=context, top_k=3, handle_impossible_answer=True))
    assert found["rank"] == rounded(reader.rank(question, [context for _, context in pairs[:3]]))
    assert all("confidence" in answer for answer in found["answer_all"])
    assert len({answer["text"] for answer in found["answer_all"]}) > 3, "answers differ from question to question"


def test_predict_gives_the_readers_answers_on_any_number_of_processes(toy, exported, cache, tmp_path):
    """Breaks if the two ways pad, decode or round differently, or the plan depends on the ranks."""
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        left = started(
            "predict",
            cache,
            processes,
            backend="onnx",
            model_name_or_path=exported,
            test_file=toy.dev,
            output_dir=folder,
        )
        assert left.code == 0, left.output
        assert "float32, computed by onnxruntime" in left.output
    names = ("predictions.json", "nbest_predictions.json", "null_odds.json", "confidences.json")
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    pairs = pairs_of(toy.dev)
    reader = Reader(exported, backend="onnx", windows=WindowConfig(**WINDOWS), batch_size=8)
    answers = dict(zip(pairs, reader.answer_all(pairs.values())))
    assert {key: answer["text"] for key, answer in answers.items()} == read(tmp_path / "1" / "predictions.json")
    assert {key: answer["nbest"] for key, answer in answers.items()} == read(tmp_path / "1" / "nbest_predictions.json")


def metadata(folder: Path, change: dict[str, str] | None) -> None:
    """Change what qa-accel wrote into the graph, or remove it."""
    model = onnx.load(folder / "model.onnx")
    [entry] = model.metadata_props
    if change is None:
        model.metadata_props.remove(entry)
    else:
        entry.value = json.dumps(json.loads(entry.value) | change)
    onnx.save(model, folder / "model.onnx")


def versions(folder: Path, *, opset: int | None = None, ir: int | None = None) -> None:
    model = onnx.load(folder / "model.onnx")
    if opset is not None:
        model.opset_import[0].version = opset
    if ir is not None:
        model.ir_version = ir
    onnx.save(model, folder / "model.onnx")


def without_outputs(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    del model.graph.output[1]
    onnx.save(model, folder / "model.onnx")


def config_json(folder: Path, **change: Any) -> None:
    (folder / "config.json").write_text(json.dumps(read(folder / "config.json") | change))


DAMAGES: dict[str, tuple[Any, str]] = {
    "cut": (lambda f: os.truncate(f / "model.onnx", 5000), "the file is damaged: copy or export the model again"),
    "empty": (lambda f: (f / "model.onnx").write_bytes(b""), "the file is damaged: copy or export the model again"),
    "no graph": (lambda f: (f / "model.onnx").unlink(), "holds no model.onnx: run scripts/export.py"),
    "not ours": (lambda f: metadata(f, None), "was not exported by qa-accel"),
    "later format": (
        lambda f: metadata(f, {"format": 99}),
        "by a later version of qa-accel (format 99, this one reads 1)",
    ),
    "wrong format": (lambda f: metadata(f, {"padding": 3}), "was not exported by qa-accel"),
    "later opset": (lambda f: versions(f, opset=99), "was written for a later onnxruntime"),
    "later ir": (lambda f: versions(f, ir=99), "was written for a later onnxruntime"),
    "no end logits": (without_outputs, "has the outputs start_logits; expected start_logits, end_logits"),
    "another architecture": (
        lambda f: config_json(f, model_type="electra"),
        "model.onnx is of the type bert, config.json of electra",
    ),
    "no config": (lambda f: (f / "config.json").unlink(), "config.json cannot be read"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json; copy the whole folder"),
    "no tokenizer settings": (lambda f: (f / "tokenizer_config.json").unlink(), "has no tokenizer_config.json"),
    "broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{"), "tokenizer.json is broken JSON at line 1"),
    "wrong policy": (
        lambda f: config_json(f, **{CONFIG_KEY: {"temperature": "hot"}}),
        "config.json has temperature 'hot'",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_export_is_refused_with_one_message(exported, tmp_path, damage):
    """Breaks if a damage reaches the answers, or a library's error reaches the user."""
    apply, message = DAMAGES[damage]
    folder = copy_of(exported, tmp_path / "graph")
    apply(folder)
    with pytest.raises(ValueError) as caught:
        Reader(folder, backend="onnx")
    assert message in str(caught.value) and str(folder) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"pad_token_id": 5}, {"max_position_embeddings": 64}])
def test_predict_refuses_a_config_that_pads_in_another_way(exported, tmp_path, toy, cache, change):
    """Breaks if predict.py goes by config.json and the graph by its metadata: rows would be filled wrongly, or too long."""
    folder = copy_of(exported, tmp_path / "graph")
    if "pad_token_id" in change:  # the tokenizer decides
        settings = read(folder / "tokenizer_config.json") | {"pad_token": "[MASK]"}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    else:
        config_json(folder, **change)
    words: dict[str, Any] = dict(
        model_name_or_path=folder, test_file=toy.dev, output_dir=tmp_path / "out", backend="onnx"
    )
    left = started("predict", cache, **words | (dict(max_seq_length=64) if "pad_token_id" not in change else {}))
    assert left.code == 2 and "are not of one export" in " ".join(left.output.split()), left.output


def test_an_exported_folder_without_the_backend_is_named(exported, toy, cache, tmp_path):
    """Breaks if the user of such a folder is only told that model.safetensors is missing."""
    with pytest.raises(ValueError, match=r"holds model\.onnx and no weights for torch: give --backend onnx"):
        Reader(exported)
    left = started("predict", cache, model_name_or_path=exported, test_file=toy.dev, output_dir=tmp_path)
    assert left.code == 2 and "holds model.onnx and no weights for torch" in " ".join(left.output.split())


def test_ask_answers_from_an_exported_folder_without_torch(exported, toy, repository):
    """In a pipe. Breaks if the command, or what reads its questions, imports torch, whose seconds an export saves."""
    pairs = list(pairs_of(toy.dev).values())
    given = "".join(json.dumps({"question": question, "context": context}) + "\n" for question, context in pairs)
    program = "import sys; from qa_accel import cli; cli.main(); print('torch' in sys.modules, file=sys.stderr)"
    words = [sys.executable, "-c", program, "ask", exported, "--backend", "onnx"]
    done = subprocess.run(list(map(str, words)), cwd=repository, input=given, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "False\n"), done.stderr
    found = Reader(exported, backend="onnx").answer_all(pairs)
    assert [json.loads(line)["answer"] for line in done.stdout.splitlines()] == [one["text"] for one in found]
    assert len(found) == 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(dtype="bfloat16"), "dtype is 'bfloat16' (str), which backend onnx does not take"),
        (dict(device="cuda:0"), "device is 'cuda:0' (str), which backend onnx does not take"),
        (dict(compile=True), "compile is 'True' (bool), which backend onnx does not take"),
        (dict(attn_implementation="eager"), "attn_implementation is 'eager' (str), which backend onnx does not take"),
        (dict(windows=WindowConfig(max_seq_length=384)), "max_seq_length 384 is more than the 128 positions"),
        (dict(backend="tensorrt"), "backend is 'tensorrt' (str); expected torch or onnx"),
    ],
)
def test_what_an_exported_model_does_not_take_is_refused_by_name(exported, options, message):
    with pytest.raises(ValueError) as caught:
        Reader(exported, **{"backend": "onnx"} | options)
    assert message in str(caught.value)


def test_a_name_of_the_hub_is_no_export():
    with pytest.raises(
        ValueError, match=r"is not a folder; backend onnx takes the folder that scripts/export\.py wrote"
    ):
        Reader("somebody/model", backend="onnx")


def test_the_missing_package_is_named(exported, monkeypatch):
    """Breaks if a machine without onnxruntime shows an ImportError from somewhere."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"exported models need onnxruntime: pip install 'qa-accel\[onnx\]'"):
        Reader(exported, backend="onnx")


def test_answers_below_the_least_confidence_are_withheld(exported, toy):
    """Breaks if the exported folder lost its calibration."""
    reader = Reader(exported, backend="onnx", windows=WindowConfig(**WINDOWS), min_confidence=1.0)
    question, context = next(iter(pairs_of(toy.dev).values()))
    assert reader.answer(question, context)["text"] is None
    assert read(exported / "config.json")[CONFIG_KEY] == POLICY
