"""Checkpoints that are damaged, forged or of another run, in the folder of an interrupted run that is started again.

Damage that a manifest shows is passed over: the run goes on from the checkpoint before, or from the start, to the same end.
A manifest that fits what is broken (`renewed`) hides it: then the run refuses, or ends as it should.
"""

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bad_input_cases.case import (
    Accepted,
    Case,
    Check,
    Either,
    Expected,
    Place,
    Refused,
    Run,
    both,
    ends_as_usual,
    says,
    trains,
)
from bad_input_cases.model_damage import DEEP, Payload
from qa_accel.files import MANIFEST, write_manifest

LATEST = "checkpoint-4"
Damage = Callable[[Path], Any]


def saved(name: str, damage: Damage, expected: Expected, *words: str, **settings: Any) -> Case:
    """`damage(latest checkpoint)`, then the same start again."""

    def make(place: Place) -> Run:
        folder = place.copy(place.base.interrupted, "output")
        damage(folder / LATEST)
        return place.resume(*words, **settings)

    return Case("checkpoint", name, make, expected)


SKIPPED = Accepted(both(ends_as_usual, says(LATEST)))


def file(name: str, change: Callable[[bytes], bytes]) -> Damage:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def manifest(content: bytes | Callable[[dict[str, Any]], Any]) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / MANIFEST
        if isinstance(content, bytes):
            path.write_bytes(content)
            return
        found = json.loads(path.read_text())
        path.write_text(json.dumps(content(found)))

    return damage


def forged(name: Any) -> Damage:
    """A manifest that lists this file."""
    return manifest(lambda found: {"files": found["files"] | {name: {"size": 3, "sha256": "0" * 64}}})


def renewed(damage: Damage) -> Damage:
    def both(folder: Path) -> None:
        damage(folder)
        (folder / MANIFEST).unlink()
        write_manifest(folder)

    return both


def progress(change: Callable[[dict[str, Any]], Any]) -> Damage:
    return file("progress.json", lambda content: json.dumps(change(json.loads(content))).encode())


def seen() -> list[Case]:
    names = ("model.safetensors", "optimizer.bin", "random_states_0.pkl", "progress.json")
    made = []
    for name in names:
        made.append(saved(f"{name} flipped", file(name, lambda c: c[:99] + bytes([c[99] ^ 1]) + c[100:]), SKIPPED))
        made.append(saved(f"{name} cut", file(name, lambda c: c[:-9]), SKIPPED))
        made.append(saved(f"{name} missing", lambda folder, n=name: (folder / n).unlink(), SKIPPED))
    manifests: dict[str, Damage] = {
        "missing": lambda folder: (folder / MANIFEST).unlink(),
        "empty": manifest(b""),
        "brackets": manifest(b"[" * 100_000),
        "brackets, closed": manifest(DEEP),
        "null": manifest(b"null"),
        "a list": manifest(b"[]"),
        "an empty object": manifest(b"{}"),
        "not UTF-8": manifest(b'{"files": {"\xff": 3}}'),
        "files a list": manifest(lambda found: {"files": [1]}),
        "files empty": manifest(lambda found: {"files": {}}),
        "a size as text": manifest(lambda found: {"files": {name: {**one, "size": "3"} for name, one in found["files"].items()}}),
        "a negative size": manifest(lambda found: {"files": {name: {**one, "size": -1} for name, one in found["files"].items()}}),
        "a size of 400 digits": manifest(lambda found: {"files": {name: {**one, "size": 10**400} for name, one in found["files"].items()}}),
        "hash null": manifest(lambda found: {"files": {name: {**one, "sha256": None} for name, one in found["files"].items()}}),
        "a name of markup": forged("[/x]"),
        "a long name": forged("a" * 300),
        "a name of escape sequences": forged("\x1b[2Jx"),
        "a name with NUL": forged("a\0b"),
        "half a surrogate as name": forged("\ud83d"),
        "a name outside of the folder": forged("../../../etc/passwd"),
        "an absolute name": forged("/etc/passwd"),
    }  # fmt: skip
    made += [saved(f"manifest {name}", damage, SKIPPED) for name, damage in manifests.items()]

    def all_of(change: Callable[[Path], Any]) -> Damage:
        def damage(folder: Path) -> None:
            for one in folder.parent.glob("checkpoint-*"):
                change(one)

        return damage

    def file_instead(folder: Path) -> None:
        shutil.rmtree(folder)
        folder.write_text("x")

    later = {"checkpoint-999": "an empty folder of a later step", "checkpoint-x": "a folder without a step"}
    later |= {
        "checkpoint-99999999999999999999999": "an empty folder of a step of 23 digits",
        "checkpoint-²": "a step that is no number",
    }
    made += [
        saved(text, lambda folder, n=name: (folder.parent / n).mkdir(), Accepted(ends_as_usual))
        for name, text in later.items()
    ]
    return [
        *made,
        saved("a file in place of the folder", file_instead, Accepted(ends_as_usual)),
        saved("none left", all_of(shutil.rmtree), Accepted(ends_as_usual)),
        saved("all damaged", all_of(lambda one: (one / MANIFEST).unlink()), SKIPPED),
        saved("a link to nothing", lambda folder: (shutil.rmtree(folder), folder.symlink_to("nowhere")), Accepted(ends_as_usual)),
        saved("best damaged", lambda folder: (folder.parent / "best" / "model.safetensors").write_bytes(b""), Accepted(said_or_same("/best"))),
        saved("best without manifest", lambda folder: (folder.parent / "best" / MANIFEST).unlink(), Accepted(said_or_same("/best"))),
        saved("what a killed save leaves", lambda folder: shutil.copytree(folder, folder.with_name(".partial-checkpoint-6")), Accepted(ends_as_usual)),
        saved("the config of before damaged", lambda folder: (folder.parent / "config.yaml").write_bytes(b"\xff["), Accepted(ends_as_usual)),
    ]  # fmt: skip


def pickled(name: str) -> Damage:
    return lambda folder: (folder / name).write_bytes(pickle.dumps({"state": Payload()}))


def pickled_in_zip(name: str) -> Damage:
    def damage(folder: Path) -> None:
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps({"state": Payload()}, protocol=2))
            archive.writestr("archive/version", "3\n")

    return damage


def hidden() -> list[Case]:
    """The manifest fits. The latest checkpoint is named, or passed over."""
    expected = Either(ends_as_usual, (LATEST,))
    states = "random_states_0.pkl"
    damages: dict[str, Damage] = {
        "optimizer.bin missing": lambda folder: (folder / "optimizer.bin").unlink(),
        "optimizer.bin garbage": file("optimizer.bin", lambda content: b"garbage"),
        "optimizer.bin empty": file("optimizer.bin", lambda content: b""),
        "weights missing": lambda folder: (folder / "model.safetensors").unlink(),
        "weights garbage": file("model.safetensors", lambda content: bytes(99)),
        "weights of another model": lambda folder: shutil.copy(folder / "optimizer.bin", folder / "model.safetensors"),
        "optimizer.bin a pickle bomb": pickled("optimizer.bin"),
        "optimizer.bin a pickle bomb in torch's zip": pickled_in_zip("optimizer.bin"),
        "progress.json missing": lambda folder: (folder / "progress.json").unlink(),
        "progress.json an empty object": file("progress.json", lambda content: b"{}"),
        "progress.json a list": file("progress.json", lambda content: b"[]"),
        "progress.json null": file("progress.json", lambda content: b"null"),
        "progress.json deep": file("progress.json", lambda content: DEEP),
        "progress.json not UTF-8": file("progress.json", lambda content: b'{"progress": "\xff"}'),
        "progress empty": progress(lambda content: content | {"progress": {}}),
        "progress a list": progress(lambda content: content | {"progress": [1]}),
        "identity null": progress(lambda content: content | {"identity": None}),
        "layout a number": progress(lambda content: content | {"layout": 3}),
        "step text": progress(lambda content: content | {"progress": content["progress"] | {"step": "four"}}),
        "step negative": progress(lambda content: content | {"progress": content["progress"] | {"step": -4}}),
        "step null": progress(lambda content: content | {"progress": content["progress"] | {"step": None}}),
        "epoch text": progress(lambda content: content | {"progress": content["progress"] | {"epoch": "one"}}),
        "segments text": progress(lambda content: content | {"progress": content["progress"] | {"segments": "x"}}),
        "segments of no ranks": progress(lambda content: content | {"progress": content["progress"] | {"segments": [[0, 4]]}}),
    }  # fmt: skip
    made = [saved(f"{name}, manifest renewed", renewed(damage), expected) for name, damage in damages.items()]

    def beyond(content: dict[str, Any]) -> dict[str, Any]:
        return content | {"progress": content["progress"] | {"segments": [[1, 10**6]]}}

    either = Either(said_or_same("random"), ("random",))
    return [
        *made,
        saved(
            "segments of a million ranks, manifest renewed",
            renewed(progress(lambda content: content | {"progress": content["progress"] | {"segments": [[10**6, 1]]}})),
            Either(trains, (LATEST,)),
        ),
        saved("segments beyond the epoch, manifest renewed", renewed(progress(beyond)), Either(trains, (LATEST,))),
        saved("random states a pickle bomb, manifest renewed", renewed(pickled(states)), either),
        saved("random states a pickle bomb in torch's zip, manifest renewed", renewed(pickled_in_zip(states)), either),
        saved("random states garbage, manifest renewed", renewed(file(states, lambda content: b"garbage")), either),
        saved("random states missing, manifest renewed", renewed(lambda folder: (folder / states).unlink()), either),
        saved(
            "random states of other keys, manifest renewed",
            renewed(file(states, lambda content: other_states())),
            either,
        ),
    ]


def other_states() -> bytes:
    return pickle.dumps({"random_state": None})


def said_or_same(word: str) -> Check:
    def check(place: Place, output: str) -> str | None:
        wrong = ends_as_usual(place, output)
        return f"{wrong}, and no word of {word}" if wrong and word not in output else None

    return check


def named() -> list[Case]:
    """--resume_from_checkpoint, and settings that are not those of the checkpoint."""
    nothing: Damage = lambda folder: None  # noqa: E731
    changed = Refused("--resume_with_changed_settings")
    latest = Refused("--resume_from_checkpoint", LATEST)
    given = f"output/{LATEST}"

    def tampered(name: str, damage: Damage, expected: Expected = latest) -> Case:
        return saved(f"named, {name}", damage, expected, resume_from_checkpoint=given)

    return [
        tampered("sound", nothing, Accepted(ends_as_usual)),
        tampered("damaged", file("optimizer.bin", lambda content: content[:-1])),
        tampered("without manifest", lambda folder: (folder / MANIFEST).unlink()),
        tampered("missing", shutil.rmtree),
        tampered("a FIFO in it", lambda folder: ((folder / MANIFEST).unlink(), os.mkfifo(folder / MANIFEST))),
        saved("the run's own folder named", nothing, Refused("--resume_from_checkpoint"), resume_from_checkpoint="output"),
        saved("another seed", nothing, Refused("seed", "--resume_with_changed_settings"), seed=7),
        saved("another batch size", nothing, changed, per_device_train_batch_size=4),
        saved("another learning rate", nothing, changed, learning_rate=2e-3),
        saved("other data", nothing, changed, max_train_samples=30),
        saved("fewer steps than were made", nothing, changed, max_train_steps=3),
        saved("a batch that is larger than what is left, allowed", nothing, Accepted(trains), "--resume_with_changed_settings", per_device_train_batch_size=32),
        saved("less data than was seen, allowed", nothing, Accepted(trains), "--resume_with_changed_settings", max_train_samples=6),
        saved("more accumulation than is left, allowed", nothing, Accepted(trains), "--resume_with_changed_settings", gradient_accumulation_steps=9),
        saved("fewer steps than were made, allowed", nothing, Either(trains, ("max_train_steps",)), "--resume_with_changed_settings", max_train_steps=3),
    ]  # fmt: skip


def cases() -> list[Case]:
    return seen() + hidden() + named()
