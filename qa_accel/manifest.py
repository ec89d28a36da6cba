"""A folder's files <-> their sizes and hashes: what tells a whole folder from a damaged one."""

import hashlib
import json
import os
from pathlib import Path

MANIFEST = "manifest.json"


def write_manifest(folder: Path) -> None:
    """Sizes and SHA-256 of all files below `folder`, written last, every byte forced to the disk."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found[path.relative_to(folder).as_posix()] = {"size": path.stat().st_size, "sha256": _digest(path)}
        sync(path)
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"files": found}, indent=1), encoding="utf-8")
    sync(manifest)
    for inner in [*(path for path in folder.rglob("*") if path.is_dir()), folder]:
        sync(inner)


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def damage_of(folder: Path) -> str | None:
    """What is wrong with a folder that has a manifest, or None if it is whole."""
    manifest = folder / MANIFEST
    if not folder.is_dir():
        return "there is no such folder"
    if not manifest.is_file():
        return f"{MANIFEST} is missing: the folder was never finished"
    try:
        listed = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        expected = [(name, file["size"], file["sha256"]) for name, file in listed.items()]
    except (ValueError, KeyError, TypeError, AttributeError):
        expected = []
    if not expected:
        return f"{MANIFEST} is not one: no file's size and hash can be read from it"
    for name, size, digest in expected:
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes, {size} were written"
        if _digest(path) != digest:
            return f"{name} is not what was written (its hash differs)"
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 22):
            digest.update(chunk)
        return digest.hexdigest()


def sync(path: Path) -> None:
    """Force a file's bytes, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
