"""Folders -> repositories on a stand-in of the hub: exactly the files that are to be there, and refusals that say what to do."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hub_stand_in import FINE_GRAINED, READER, WRITER
from huggingface_hub import constants
from processes import free_port

from qa_accel import hub as pushing
from qa_accel.hub import PLACEHOLDER, check, push
from qa_accel.hub_settings import HubConfig

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


def test_the_allow_list_is_what_the_documentation_says(repository):
    """Breaks if a name is added to what is uploaded and the page does not say so."""
    page = (repository / "docs" / "hub.md").read_text(encoding="utf-8")
    assert len(pushing.UPLOADED) > 10
    assert not [name for name in pushing.UPLOADED if f"`{name}`" not in page]


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
