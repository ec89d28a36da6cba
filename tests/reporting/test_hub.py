"""Folders -> repositories on a stand-in of the hub: exactly the files that are to be there, and refusals that say what to do."""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_stand_in import FINE_GRAINED, READER, WRITER, Hub, hub_stand_in, point_at
from huggingface_hub import constants
from launches import SCRIPTS, only_message, training_flags
from processes import free_port
from speed import scaled
from toy import flags
from training_runs import leave_at_once, results_of

from qa_accel import hub as pushing
from qa_accel.hub import PLACEHOLDER, HubConfig, check, push

CARD = f"---\npipeline_tag: question-answering\n---\n\nReader('{PLACEHOLDER}')\n"
MODEL = {
    "config.json": b'{"model_type": "bert"}',
    "model.safetensors": bytes(range(256)) * 40,
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b"{}",
    "all_results.json": b'{"exact": 80.125, "f1": 83.5, "null_score_diff_threshold": 0.0}',
    "report.html": b"<!doctype html>",
}
"""All but the card, whose bytes differ."""
OTHERS = ("predictions.json", "nbest_predictions.json", "metrics.jsonl", "config.yaml", "data_report.json", ".lock")
OTHERS += ("secrets.txt", ".env", "error_analysis.json", "checkpoint-3/model.safetensors", "checkpoint-3/config.json")
OTHERS += (
    "wandb/run-1/README.md",
    "best/config.json",
    "model.safetensors.bak",
    "old_model.safetensors",
    "token",
    "model-of-mine-of-2026.safetensors",
)
"""What a run's folder may hold and nobody asked for."""


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[Hub]:
    """A hub that this process uses, as the account ada."""
    with hub_stand_in() as found:
        for name in ("ENDPOINT", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_XET"):
            monkeypatch.setattr(constants, name, getattr(constants, name))  # to be put back afterwards
        point_at(found.url)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no_token_here"))
        for name, value in found.environment().items():
            monkeypatch.setenv(name, value)
        yield found


def folder_of_a_run(tmp_path: Path, name: str = "toy-run", **files: bytes) -> Path:
    folder = tmp_path / name
    for path, content in {
        **MODEL,
        **dict.fromkeys(OTHERS, b"not to be seen"),
        "README.md": CARD.encode(),
        **files,
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def stamps(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time of the last change and content of every file."""
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


# ------------------------------------------------------------------------------------------------ what is there then


def test_a_push_makes_a_repository_of_exactly_the_models_files(hub, tmp_path):
    """Breaks if one of the decoys gets through, a file is left out, or a byte changes on the way."""
    folder = folder_of_a_run(tmp_path)
    before = stamps(folder)
    pushed = push(folder, HubConfig(push_to_hub=True))
    card = CARD.replace(PLACEHOLDER, "ada/toy-run").encode()
    assert hub.repositories.keys() == {"ada/toy-run"}
    assert hub.repositories["ada/toy-run"].files() == {**MODEL, "README.md": card}
    assert pushed.repo_id == "ada/toy-run" and set(pushed.names) == {*MODEL, "README.md"}
    assert list(hub.large.values()) == [MODEL["model.safetensors"]], "the weights went the way of large files"
    assert stamps(folder) == before


def test_it_is_one_commit_that_names_the_scores(hub, tmp_path):
    folder = folder_of_a_run(tmp_path)
    push(folder, HubConfig(push_to_hub=True))
    messages = [commit.message for commit in hub.repositories["ada/toy-run"].branches["main"]]
    expected = "Model trained with qa-accel: exact match 80.12, F1 83.50 at threshold 0"
    assert messages == ["initial commit", expected]


def test_shards_and_adapters_are_models_too(hub, tmp_path):
    """Breaks if only a model in one file is known."""
    shards = {f"model-0000{part}-of-00002.safetensors": bytes([part]) for part in (1, 2)}
    index = {"model.safetensors.index.json": b"{}"}
    sharded = folder_of_a_run(tmp_path, "sharded", **shards, **index)
    (sharded / "model.safetensors").unlink()
    push(sharded, HubConfig(push_to_hub=True))
    assert {*shards, *index} <= hub.repositories["ada/sharded"].files().keys()
    adapter = {
        "adapter_model.safetensors": b"a",
        "adapter_config.json": json.dumps({"base_model_name_or_path": "lab/base"}).encode(),
    }
    folder = folder_of_a_run(tmp_path, "adapter", **adapter)
    (folder / "model.safetensors").unlink()
    push(folder, HubConfig(push_to_hub=True))
    assert {*adapter, "config.json"} <= hub.repositories["ada/adapter"].files().keys()


@pytest.mark.parametrize("private", [True, False, None])
def test_a_repository_is_created_as_private_as_the_settings_say(hub, tmp_path, private):
    push(folder_of_a_run(tmp_path), HubConfig(push_to_hub=True, hub_private_repo=private, hub_model_id="lab/reader"))
    assert hub.repositories.keys() == {"lab/reader"}
    assert hub.repositories["lab/reader"].private is bool(private)


def test_a_branch_is_created_and_main_stays_as_it_is(hub, tmp_path):
    """Breaks if the branch's name is dropped, or cut at its slash."""
    settings = HubConfig(push_to_hub=True, hub_revision="seeds/7")
    folder = folder_of_a_run(tmp_path)
    push(folder, settings)
    push(folder, settings)  # it is there already, with the same files
    repository = hub.repositories["ada/toy-run"]
    assert len(repository.branches["seeds/7"]) == 2, "nothing has changed: no empty commit"
    assert repository.branches.keys() == {"main", "seeds/7"}
    assert repository.files("main") == {} and repository.files("seeds/7").keys() == {*MODEL, "README.md"}


def test_a_second_push_replaces_the_first_and_keeps_what_others_put_there(hub, tmp_path):
    """Breaks if shards of an earlier model stay beside the new one, which loaders would read, or a licence is deleted."""
    first = folder_of_a_run(tmp_path, "one", **{"model-00001-of-00001.safetensors": b"1", "vocab.txt": b"old"})
    push(first, HubConfig(push_to_hub=True, hub_model_id="reader"))
    hub.repositories["ada/reader"].branches["main"][-1].files["LICENSE"] = b"mine"
    second = folder_of_a_run(tmp_path, "two", **{"config.json": b"{}"})
    push(second, HubConfig(push_to_hub=True, hub_model_id="reader"))
    found = hub.repositories["ada/reader"].files()
    assert found.keys() == {*MODEL, "README.md", "LICENSE"}
    assert found["config.json"] == b"{}" and found["LICENSE"] == b"mine"


def test_a_folder_without_a_model_or_with_a_link_is_refused_before_anything_is_created(hub, tmp_path):
    """Breaks if a link in a folder from elsewhere publishes a file that it leads to."""
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(
        ValueError, match=r"has no config\.json and no README\.md and no all_results\.json and no model\.safetensors"
    ):
        push(empty, HubConfig(push_to_hub=True))
    folder = folder_of_a_run(tmp_path)
    (folder / "report.html").unlink()
    (folder / "report.html").symlink_to(folder / "secrets.txt")
    with pytest.raises(ValueError, match=r"report\.html is not a plain file"):
        push(folder, HubConfig(push_to_hub=True))
    local = {"adapter_config.json": json.dumps({"base_model_name_or_path": str(tmp_path)}).encode()}
    with pytest.raises(ValueError, match="--merge_lora"):
        push(folder_of_a_run(tmp_path, "local", **local), HubConfig(push_to_hub=True))
    assert hub.repositories == {} and hub.requests == []


# ---------------------------------------------------------------------------------------------- what is refused early

REFUSED: dict[str, tuple[dict[str, Any], str | None, str]] = {
    "no token": ({}, None, "there is no token for the hub. Set HF_TOKEN, or run `hf auth login`"),
    "unknown token": ({}, "hf_gone", "does not accept the token"),
    "token for reading": ({}, READER, "the token of ada can only read"),
    "token with a blank": ({}, f"{WRITER} x", "the token has a blank"),
    "owner without rights": (
        {"hub_model_id": "bob/new"},
        WRITER,
        "ada cannot create it; the owner can be one of ada, lab",
    ),
    "another's repository": ({"hub_model_id": "bob/theirs"}, WRITER, "does not let this token write there"),
    "public repository": ({"hub_model_id": "open", "hub_private_repo": True}, WRITER, "ada/open exists and is public"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_fail_after_the_training_is_refused_before_it(hub, tmp_path, monkeypatch, case):
    """Breaks if a check is lost: ten hours later the hub would say the same. Nothing is created, no token is shown."""
    settings, token, expected = REFUSED[case]
    push_all = HubConfig(push_to_hub=True, hub_model_id="open")
    push(folder_of_a_run(tmp_path), push_all)
    hub.repositories["bob/theirs"] = hub.repositories["ada/open"]
    there = {name: len(one.branches["main"]) for name, one in hub.repositories.items()}
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    for refused in (check, lambda config, folder: push(folder, config)):
        with pytest.raises(ValueError) as error:
            refused(HubConfig(push_to_hub=True, **settings), tmp_path / "toy-run")
        assert expected in str(error.value) and "\n" not in str(error.value)
        assert token is None or token not in str(error.value)
        assert error.value.__cause__ is None, "the client's errors hold requests, and these the token"
    assert {name: len(one.branches["main"]) for name, one in hub.repositories.items()} == there


@pytest.mark.parametrize("token", [WRITER, FINE_GRAINED])
@pytest.mark.parametrize("name", [None, "open", "lab/new"])
def test_what_will_work_is_not_refused_and_the_check_creates_nothing(hub, tmp_path, monkeypatch, token, name):
    monkeypatch.setenv("HF_TOKEN", token)
    push(folder_of_a_run(tmp_path), HubConfig(push_to_hub=True, hub_model_id="open"))
    hub.requests.clear()
    check(HubConfig(push_to_hub=True, hub_model_id=name), tmp_path / "toy-run")
    assert hub.repositories.keys() == {"ada/open"}
    assert hub.requests and {method for method, _ in hub.requests} == {"GET"}


def test_a_private_repository_stays_private_and_a_warning_says_so(hub, tmp_path, caplog):
    folder = folder_of_a_run(tmp_path)
    push(folder, HubConfig(push_to_hub=True, hub_private_repo=True))
    push(folder, HubConfig(push_to_hub=True, hub_private_repo=False))
    assert hub.repositories["ada/toy-run"].private
    assert "ada/toy-run exists, and stays private" in caplog.text


def test_offline_mode_and_a_folder_whose_name_is_no_id_are_refused_without_a_request(hub, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="give --hub_model_id"):
        check(HubConfig(push_to_hub=True), tmp_path / "run of monday")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE"):
        check(HubConfig(push_to_hub=True), tmp_path / "run")
    assert hub.requests == []


@pytest.mark.parametrize("bad", ["a/b/c", "datasets/ada/x", "a--b", "-a", "a b", "ada/", "x.git", "é", ""])
def test_what_can_be_no_id_is_refused_with_the_settings(bad):
    with pytest.raises(ValueError, match="--hub_model_id"):
        HubConfig(hub_model_id=bad)


@pytest.mark.parametrize("bad", ["a b", "-x", "a..b", "/a", "a/", "x.lock", "a\nb", ""])
def test_what_can_be_no_branch_is_refused_with_the_settings(bad):
    with pytest.raises(ValueError, match="--hub_revision"):
        HubConfig(hub_revision=bad)


def test_a_hub_that_cannot_be_reached_is_named_without_its_password(hub, tmp_path, monkeypatch):
    """Breaks if the address is shown with what is before its @, or if the message does not name report.py."""
    monkeypatch.setattr(constants, "ENDPOINT", f"http://user:geheim@127.0.0.1:{free_port()}")
    with pytest.raises(
        ValueError, match=r"127\.0\.0\.1:\d+ cannot be reached.*scripts/report\.py RUN --push_to_hub"
    ) as error:
        check(HubConfig(push_to_hub=True), tmp_path / "run")
    assert "geheim" not in str(error.value)


def test_a_busy_hub_is_a_warning_before_the_run_and_an_error_after_it(hub, tmp_path, caplog):
    """An array of jobs may meet the limit of requests: breaks if that ends them."""
    hub.broken = lambda method, path: 429
    check(HubConfig(push_to_hub=True), folder_of_a_run(tmp_path))
    assert "answers 429" in caplog.text and "uploads at its end" in caplog.text
    with pytest.raises(ValueError, match="answers 429"):
        push(tmp_path / "toy-run", HubConfig(push_to_hub=True))


def test_weights_that_do_not_get_through_end_in_a_message_with_the_status(hub, tmp_path):
    """The client hides the status of an upload in the cause of another error."""
    folder = folder_of_a_run(tmp_path)
    before = stamps(folder)
    hub.broken = lambda method, path: 403 if method == "PUT" else None
    with pytest.raises(ValueError, match="does not let this token write"):
        push(folder, HubConfig(push_to_hub=True))
    assert stamps(folder) == before and hub.repositories["ada/toy-run"].files() == {}


def test_metadata_that_the_hub_refuses_is_reported_in_its_words(hub, tmp_path):
    folder = folder_of_a_run(tmp_path, **{"README.md": b"---\nbase_model: /home/me/model\n---\n"})
    with pytest.raises(ValueError, match="'/home/me/model' is no id"):
        push(folder, HubConfig(push_to_hub=True))


def test_settings_of_the_hub_without_push_to_hub_are_reported_as_ignored(hub, caplog):
    with caplog.at_level(logging.WARNING):
        check(HubConfig(hub_model_id="x"), Path("run"))
    assert "--hub_model_id is ignored without --push_to_hub" in caplog.text and hub.requests == []


# ------------------------------------------------------------------------------------------------------- whole runs


def note_leaving(folder: Path) -> None:
    """Make a file when this process has met the others for the last time."""
    leave = os._exit

    def noted(code: int) -> None:
        (folder / f"left-{os.environ.get('RANK', '0')}").touch()
        leave(code)

    os._exit = noted  # type: ignore


def test_a_run_of_two_processes_pushes_once_and_no_rank_waits_for_it(hub, trainer, tmp_path):
    """The hub takes the commit when rank 1 has left. Breaks if ranks meet again after the upload has begun, as in a barrier
    at their exit: a long upload would run into their time limit."""

    def until_rank_1_has_left(method: str, path: str) -> int | None:
        if "/commit/" in path:
            for _ in range(int(scaled(200))):
                if (tmp_path / "left-1").exists():
                    return None
                time.sleep(0.1)
            return 500
        return None

    hub.broken = until_rank_1_has_left
    arrangements = [(point_at, hub.url), (note_leaving, tmp_path)]
    folder = trainer.whole(
        tmp_path / "run",
        *("--push_to_hub", "--hub_private_repo", "--hub_model_id", "lab/two"),
        processes=2,
        arrangements=arrangements,
        environment=hub.environment(),
        max_train_steps=2,
    )
    assert [method + path for method, path in hub.requests if "/commit/" in path] == [
        "POST/api/models/lab/two/commit/main"
    ]
    found = hub.repositories["lab/two"].files()
    assert found["model.safetensors"] == (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("token", "words", "expected"),
    [
        (READER, (), "the token of ada can only read"),
        (
            WRITER,
            ("--lora_r", "2"),
            "a folder that is not on the hub, so nobody could load it; train with --merge_lora",
        ),
    ],
)
def test_a_run_that_may_not_push_ends_on_all_ranks_before_it_trains(hub, trainer, tmp_path, token, words, expected):
    """Breaks if rank 0 alone knows: the other would wait for it until the launcher ends it."""
    if "--lora_r" in words:
        pytest.importorskip("peft")
    left = trainer(
        tmp_path / "run",
        "--push_to_hub",
        *words,
        processes=2,
        arrangements=[(point_at, hub.url), (leave_at_once,)],
        environment=hub.environment(token),
    )
    assert [one.code for one in left] == [2, 2]
    assert expected in only_message(left[0])
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_push_that_fails_after_the_run_leaves_it_finished_and_says_how_to_push_again(hub, trainer, tmp_path):
    """Breaks if the run counts as failed, if its files are touched, or if the command lacks a setting of the hub."""
    hub.broken = lambda method, path: 503 if path == "/api/repos/create" else None
    folder = tmp_path / "run"
    left = trainer(
        folder,
        *("--push_to_hub", "--hub_model_id", "lab/late", "--hub_private_repo", "true"),
        arrangements=[(point_at, hub.url)],
        environment=hub.environment(),
        max_train_steps=2,
    )
    message = only_message(left[0])
    assert f"python scripts/report.py {folder} --push_to_hub --hub_model_id lab/late --hub_private_repo" in message
    assert "answers 503" in message and "finished after" in left[0].output
    assert results_of(folder)["steps"] == 2 and not (folder / "ranks").exists()
    hub.broken = lambda method, path: None
    push(folder, HubConfig(push_to_hub=True, hub_model_id="lab/late", hub_private_repo=True))
    assert hub.repositories["lab/late"].private


def test_the_script_with_the_environment_of_a_user_pushes_and_tells_nobody_the_token(hub, toy, tmp_path):
    """A process that imports everything by itself. Breaks if the token gets into a file of the run, its output, what is
    uploaded, or an address that is asked for."""
    folder = tmp_path / "pushed-run"
    words = [*training_flags(toy, tmp_path / "cache"), *flags(output_dir=folder, max_train_steps=2), "--push_to_hub"]
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "train.py"), *words],
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_MIXED_PRECISION": "no"} | hub.environment(),
        capture_output=True,
        text=True,
        timeout=scaled(120),
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    found = hub.repositories["ada/pushed-run"].files()
    expected = {"README.md", "all_results.json", "config.json", "model.safetensors", "report.html", "tokenizer.json"}
    assert expected <= found.keys() <= {*expected, "tokenizer_config.json"}
    assert b"ada/pushed-run" in found["README.md"] and PLACEHOLDER.encode() not in found["README.md"]
    for name in found.keys() - {"README.md"}:
        assert found[name] == (folder / name).read_bytes(), name
    places = [
        output,
        *map(str, hub.requests),
        *(one.message for one in hub.repositories["ada/pushed-run"].branches["main"]),
    ]
    assert "uploaded" in output and not [place for place in places if WRITER in place]
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert len(written) > 10 and not [path for path in written if WRITER.encode() in path.read_bytes()]
    for name, content in found.items():
        assert str(tmp_path).encode() not in content, f"{name} tells where the folder was"


def test_the_allow_list_is_what_the_documentation_says(repository):
    """Breaks if a name is added to what is uploaded and the page does not say so."""
    page = (repository / "docs" / "hub.md").read_text(encoding="utf-8")
    assert len(pushing.UPLOADED) > 10
    assert not [name for name in pushing.UPLOADED if f"`{name}`" not in page]


def test_the_command_that_a_failed_push_prints_works_for_a_run_without_validation_data(hub, trainer, tmp_path, capsys):
    """There is nothing to report. Breaks if such a model can never be uploaded later."""
    from qa_accel.commands import report

    folder = trainer.whole(tmp_path / "run", max_train_steps=2, validation_file=None)
    config = HubConfig(push_to_hub=True, hub_model_id="lab/plain")
    report.run(report.ReportConfig((folder,), hub=config))
    found = hub.repositories["lab/plain"].files()
    assert "model.safetensors" in found and "report.html" not in found
    assert "no new report.html: " in capsys.readouterr().out


def test_a_run_that_has_not_ended_is_not_pushed(hub, tmp_path):
    """Breaks if an old model goes up beside answers of the run that is to replace it."""
    folder = folder_of_a_run(tmp_path)
    (folder / "all_results.json").unlink()
    with pytest.raises(ValueError, match=r"has no all_results\.json; name the folder of a run that has finished"):
        push(folder, HubConfig(push_to_hub=True, hub_model_id="lab/early"))


@pytest.mark.parametrize("status", [400, 403, 409, 500])
def test_a_password_in_the_hubs_address_is_not_shown(hub, tmp_path, monkeypatch, status):
    """Breaks if an error of the client, which names the address, is repeated as it is."""
    from huggingface_hub import constants

    hub.broken = lambda method, path: status if "/commit/" in path else None
    address = hub.url.replace("://", "://ada:geheim@")
    monkeypatch.setattr(constants, "ENDPOINT", address)
    with pytest.raises(ValueError) as error:
        push(folder_of_a_run(tmp_path), HubConfig(push_to_hub=True))
    assert "geheim" not in str(error.value)
