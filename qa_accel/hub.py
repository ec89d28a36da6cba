"""A run's folder -> a model repository of the Hugging Face hub, as one commit of the files in UPLOADED.

`check` refuses before a run what would fail after it. The token comes from huggingface_hub's own places (HF_TOKEN, or the
file that `hf auth login` writes); it is in no setting, no message and no file.
"""

import fnmatch
import logging
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.utils import (
    build_hf_headers,
    disable_progress_bars,
    get_session,
    hf_raise_for_status,
    validate_repo_id,
)

from qa_accel.hub_errors import LOGIN, Busy, explained
from qa_accel.hub_settings import HubConfig, check_id
from qa_accel.input_files import read_json
from qa_accel.messages import short

logger = logging.getLogger(__name__)

WEIGHTS = ("model.safetensors", "model-?????-of-?????.safetensors", "adapter_model.safetensors")
CARD, SCORES, ADAPTER = "README.md", "all_results.json", "adapter_config.json"
TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
    *("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model"),
)
INDEX = "model.safetensors.index.json"
UPLOADED = (*WEIGHTS, INDEX, "config.json", ADAPTER, *TOKENIZER, CARD, SCORES, "report.html")
"""All that is ever uploaded: names of files at the top of the run's folder, with `?` for the digits of shards."""
PLACEHOLDER = "path/to/this/folder"
"""How the card names the model in its commands. The uploaded card has the repository's id in its place."""
SECONDS = 30
"""For each answer to a check."""


@dataclass(frozen=True)
class Pushed:
    repo_id: str
    url: str
    """Of the commit."""
    names: tuple[str, ...]
    """Files of the folder that the repository holds now."""


def check(config: HubConfig, folder: Path) -> None:
    """Raises ValueError where a push of this folder would fail, as far as that can be seen before the folder is filled.

    For one process: it sends a few requests, which create nothing. A hub that is too busy to answer is a warning.
    """
    if not config.push_to_hub:
        for name in ("hub_model_id", "hub_private_repo", "hub_revision"):
            if getattr(config, name) is not None:
                logger.warning("--%s is ignored without --push_to_hub", name)
        return
    token = _token(config, folder)
    try:
        with explained():
            _repository(config, folder, token)
    except Busy as error:
        logger.warning("%s; the run goes on, and uploads at its end", error)


def check_adapter(base: str) -> None:
    """Raises ValueError for an adapter's base that only this machine has: nobody could load the adapter from the hub."""
    if not is_hub_id(base):
        raise ValueError(
            f"--push_to_hub: the model is an adapter of {short(base)}, a folder that is not on the hub, so nobody could load "
            "it; train with --merge_lora, or on a base model of the hub"
        )


def push(folder: Path, config: HubConfig) -> Pushed:
    """Upload the folder's files of UPLOADED in one commit; such files of an earlier push that the folder lacks are deleted.

    For one process, after all files are written; it may take as long as the upload takes. Nothing in the folder is changed.
    Raises ValueError that says what to do: for a folder without a model, and for whatever the hub refuses.
    """
    names = files_to_upload(folder)
    if ADAPTER in names:
        check_adapter(str(_mapping(folder / ADAPTER).get("base_model_name_or_path")))
    token = _token(config, folder)
    if not sys.stderr.isatty():
        disable_progress_bars()  # a log would get a line for each step of a bar
    with explained():
        repo_id = _repository(config, folder, token)
        api = HfApi(token=token)
        api.create_repo(repo_id, private=config.hub_private_repo, exist_ok=True)
        if config.hub_revision is not None:
            api.create_branch(repo_id, branch=config.hub_revision, exist_ok=True)
        there = api.model_info(repo_id, revision=config.hub_revision).siblings or []
        stale = [file.rfilename for file in there if _is_uploaded(file.rfilename) and file.rfilename not in names]
        commit = api.create_commit(
            repo_id,
            [*(_addition(folder, name, repo_id) for name in names), *map(CommitOperationDelete, stale)],
            commit_message=commit_message(folder),
            revision=config.hub_revision,
        )
    return Pushed(repo_id, str(commit.commit_url), tuple(names))


def files_of_a_model(folder: Path) -> list[str]:
    """Names of the folder's files that loading a model or its tokenizer reads."""
    patterns = (*WEIGHTS, INDEX, ADAPTER, *TOKENIZER)
    return [path.name for path in folder.iterdir() if any(fnmatch.fnmatchcase(path.name, each) for each in patterns)]


def files_to_upload(folder: Path) -> list[str]:
    """Names of the folder's files that are uploaded. Raises ValueError if they are no whole model, and for a link."""
    names = sorted(path.name for path in folder.iterdir() if _is_uploaded(path.name)) if folder.is_dir() else []
    for name in names:
        if (folder / name).is_symlink() or not (folder / name).is_file():
            raise ValueError(f"--push_to_hub: {folder / name} is not a plain file; put a copy of the file in its place")
    missing = [name for name in ("config.json", CARD, SCORES) if name not in names]
    if not any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in WEIGHTS):
        missing.append("model.safetensors")
    if missing:
        raise ValueError(
            f"--push_to_hub: {folder} has no {' and no '.join(missing)}; name the folder of a run that has finished"
        )
    return names


def commit_message(folder: Path) -> str:
    """One line with the scores of all_results.json, where it has any."""
    results = _mapping(folder / SCORES) if (folder / SCORES).is_file() else {}
    scores = [
        f"{title} {results[key]:.2f}" for key, title in (("exact", "exact match"), ("f1", "F1")) if key in results
    ]
    threshold = results.get("null_score_diff_threshold")
    where = "" if threshold is None or not scores else f" at threshold {float(threshold):g}"
    return "Model trained with qa-accel" + (f": {', '.join(scores)}{where}" if scores else "")


def is_hub_id(name: str) -> bool:
    """Whether a name can only be that of the hub: it has the form of an id, and no folder or file has it here."""
    try:
        validate_repo_id(name)
        return not Path(name).exists()
    except (ValueError, OSError):
        return False


def _mapping(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"--push_to_hub: {path}: expected a mapping, found {type(content).__name__}; write it again")
    return content


def _is_uploaded(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in UPLOADED)


def _addition(folder: Path, name: str, repo_id: str) -> CommitOperationAdd:
    if name != CARD:
        return CommitOperationAdd(name, folder / name)
    return CommitOperationAdd(name, (folder / name).read_bytes().replace(PLACEHOLDER.encode(), repo_id.encode()))


# --- what the hub says


def _token(config: HubConfig, folder: Path) -> str:
    """The token, after all that can be refused without a request."""
    if config.hub_model_id is None:
        check_id(folder.resolve().name, f"--push_to_hub: the name of the folder {folder}", "; give --hub_model_id")
    if constants.HF_HUB_OFFLINE:
        raise ValueError(
            "--push_to_hub: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set; unset it, or leave --push_to_hub out and upload "
            "later, from a machine with network: scripts/report.py RUN --push_to_hub"
        )
    with explained():
        token = get_token()
    if token is None:
        raise ValueError(f"--push_to_hub: there is no token for the hub. {LOGIN}")
    if not re.fullmatch(r"[!-~]+", token):  # HTTP libraries would show it in their errors
        raise ValueError(f"--push_to_hub: the token has a blank or a character that no token has. {LOGIN}")
    return token


def _repository(config: HubConfig, folder: Path, token: str) -> str:
    """The id with its owner. Raises ValueError where the token may not write to it, or it is visible to more people than
    the settings allow."""
    who = _get("whoami-v2", token)
    owner, _, name = (config.hub_model_id or folder.resolve().name).rpartition("/")
    repo_id = f"{owner or who['name']}/{name}"
    role = ((who.get("auth") or {}).get("accessToken") or {}).get("role")
    if role == "read":
        raise ValueError(f"--push_to_hub: the token of {who['name']} can only read. {LOGIN} with one that can write")
    found = _get(f"models/{repo_id}", token, missing_ok=True)
    if found is None:
        owners = {who["name"], *(organization["name"] for organization in who.get("orgs") or [])}
        # a fine-grained token does not list the organizations that it may write to
        if owner and owner not in owners and role != "fineGrained":
            raise ValueError(
                f"--push_to_hub: {repo_id} does not exist, and {who['name']} cannot create it; the owner can be one of "
                f"{', '.join(sorted(owners))}"
            )
        return repo_id
    _get(f"models/{repo_id}/auth-check/write", token, missing_ok=True, body=False)
    if config.hub_private_repo and not found.get("private"):
        raise ValueError(
            f"--hub_private_repo true: {repo_id} exists and is public; make it private in its settings on the hub, or take "
            "another --hub_model_id"
        )
    if config.hub_private_repo is False and found.get("private"):
        logger.warning("--hub_private_repo false: %s exists, and stays private", repo_id)
    return repo_id


def _get(path: str, token: str, *, missing_ok: bool = False, body: bool = True) -> Any:
    """The JSON of a request to the hub's API, None for 404 if `missing_ok`."""
    url = f"{constants.ENDPOINT}/api/{path}"
    response = get_session().get(url, headers=build_hf_headers(token=token), timeout=SECONDS)
    if missing_ok and response.status_code == 404:
        return None
    hf_raise_for_status(response)
    return response.json() if body else None
