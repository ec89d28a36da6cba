"""The file of a model's logits on every node's cache: whole or not there, written once per cache, seen by all ranks."""

import contextlib
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest
from accelerate import Accelerator
from logit_cases import BATCH_SIZE, Case, GivenLogits, qa_of, save, sha256, split_of
from processes import call, run

from qa_accel.inference import saved_logits


@pytest.fixture(scope="module")
def case(toy, tmp_path_factory) -> Case:
    return Case(toy.model, toy.dev, tmp_path_factory.mktemp("cache"))


def alone(case: Case) -> tuple[str, str]:
    path = save(Accelerator(cpu=True), case, qa_of(case.model))
    return path.name, sha256(path)


@pytest.fixture(scope="module")
def good(case) -> tuple[str, str]:
    """Name and hash of a whole file, which is in the cache of `case`."""
    return call(alone, case)[0]


def on_nodes(case: Case, states: list[str], good: Path) -> tuple[bool, bool, str, int]:
    """This rank is a node of its own, with its own cache in that state, or with the shared one.

    Whether anything was to compute, whether this rank wrote, the hash of its file afterwards and the time of its last change.
    """
    rank = int(os.environ["RANK"])
    os.environ["LOCAL_RANK"] = "0"
    state = states[rank]
    cache = case.cache / ("shared" if state == "shared" else f"node-{rank}")
    cache.mkdir(parents=True, exist_ok=True)
    if state in ("whole", "damaged"):
        content = bytearray(good.read_bytes())
        content[len(content) // 2] ^= state == "damaged"
        (cache / good.name).write_bytes(content)
        os.utime(cache / good.name, ns=(0, 0))
    accelerator = Accelerator(cpu=True)
    qa = qa_of(case.model)
    windows = split_of(case._replace(cache=cache)).windows
    target = saved_logits.locate(accelerator, qa, windows, BATCH_SIZE, dtype="float32", cache_dir=cache)
    path = saved_logits.save_logits(accelerator, qa, windows, BATCH_SIZE, dtype="float32", cache_dir=cache).path
    return target.there, rank in target.writers, sha256(path), path.stat().st_mtime_ns


@pytest.mark.parametrize(
    ("states", "writers"),
    [
        (["none", "whole", "damaged"], [True, False, True]),
        (["whole", "none", "whole"], [False, True, False]),
    ],
)
def test_every_node_has_the_file_in_its_own_cache_afterwards(case, good, tmp_path, states, writers):
    """Breaks, by a deadlock or a missing file, if a rank decides good whether to compute, or if only rank 0's cache is looked
    at; and if a file that is whole is written again."""
    name, digest = good
    found = call(on_nodes, case._replace(cache=tmp_path), states, case.cache / name, processes=3)
    for state, writes, (there, wrote, hash_of, changed) in zip(states, writers, found):
        assert not there and wrote == writes and hash_of == digest
        assert (changed == 0) == (state == "whole")


def writers_on_one_cache(case: Case) -> tuple[int, bool | None]:
    """How many ranks want to write, and whether this one does."""
    os.environ["LOCAL_RANK"] = "0"
    accelerator, qa = Accelerator(cpu=True), qa_of(case.model)
    with accelerator.main_process_first():
        windows = split_of(case).windows
    target = saved_logits.locate(accelerator, qa, windows, BATCH_SIZE, dtype="float32", cache_dir=case.cache)
    accelerator.wait_for_everyone()
    writes = None
    with contextlib.suppress(KeyboardInterrupt), saved_logits.filling(accelerator, target, windows) as rounds:
        writes = rounds._writer is not None
        accelerator.wait_for_everyone()  # as a round does: else the first one deletes its part before the others look for it
        raise KeyboardInterrupt
    return len(target.writers), writes


def test_nodes_that_share_a_cache_write_one_file_and_an_error_leaves_none(case, tmp_path):
    """Breaks if each node's first process lays out the file, three times its room, or if a broken-off pass leaves anything."""
    found = call(writers_on_one_cache, case._replace(cache=tmp_path), processes=3)
    assert found == [(3, True), (3, False), (3, False)]
    assert not list(tmp_path.glob("*logits*")) and not list(tmp_path.glob(".*logits*"))


def blind_for_a_while(case: Case, name: str, seconds: float | None) -> str:
    """Rank 1 is a second process of rank 0's machine whose cache is another one, in which the file appears late or never."""
    rank = int(os.environ["RANK"])
    os.environ["LOCAL_RANK"] = str(rank)
    saved_logits.SECONDS_TO_APPEAR = 2
    cache = case.cache if rank == 0 else case.cache / "another"
    cache.mkdir(exist_ok=True)
    accelerator, qa = Accelerator(cpu=True), qa_of(case.model)
    windows = split_of(case._replace(cache=cache)).windows
    (cache / name).unlink(missing_ok=True) if rank else None
    if rank and seconds is not None:
        threading.Timer(seconds, shutil.copy, (case.cache / name, cache / name)).start()
    try:
        target = saved_logits.locate(accelerator, qa, windows, BATCH_SIZE, dtype="float32", cache_dir=cache)
    except OSError as error:
        return str(error)
    return f"there: {target.there}"


def test_processes_of_one_machine_that_disagree_wait_for_the_file_and_then_fail_alike(case, good):
    """Breaks if no rank writes while one wants the file ("not enough values to unpack"), or if one rank fails alone and the others
    wait for it."""
    name, _ = good
    assert call(blind_for_a_while, case, name, 0.5, processes=2) == ["there: True"] * 2
    for message in call(blind_for_a_while, case, name, None, processes=2):
        assert "but not for rank 1: processes of one machine must share the cache" in message


def killed_in_the_middle(case: Case) -> None:
    save(Accelerator(cpu=True), case, qa_of(case.model).with_model(GivenLogits(1.0, killed=True)))


def test_a_process_that_is_killed_leaves_no_file(case, tmp_path):
    """Breaks if the file is filled under its final name: half of it would be taken for all."""
    left = run(killed_in_the_middle, case._replace(cache=tmp_path))[0]
    assert left.code == -signal.SIGKILL
    assert not list(tmp_path.glob("logits-*"))
    assert len(list(tmp_path.glob(".logits-*.partial"))) == 1, "it was being written"


def test_a_damaged_file_is_computed_again(case, good, tmp_path, caplog):
    """Breaks if one changed bit of a logit goes unnoticed."""
    name, digest = good
    shutil.copytree(case.cache, tmp_path / "copy")
    damaged = tmp_path / "copy" / name
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    path = save(Accelerator(cpu=True), case._replace(cache=tmp_path / "copy"), qa_of(case.model))
    assert path == damaged and sha256(path) == digest
    assert "its hash differs" in caplog.text
