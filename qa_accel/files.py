"""Content -> a file or folder that appears under its name whole or not at all; manifests that tell whole from damaged.

Everything is written to a temporary path next to its final one, forced to the disk, then renamed: within one file system
that is all or nothing. A killed process leaves only a temporary path, which a later one deletes.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError

from qa_accel.messages import short

MANIFEST = "manifest.json"
PARTIAL = ".partial-"  # + a folder's final name while it is written: the next start finds and deletes it
REPLACED = ".partial-old-"  # + the name of the former folder while the new one takes its place
ABANDONED = f".*.{'[0-9a-f]' * 16}.partial*"  # temporary files of `replacing`
REMEDY = "Free some space or fix the cause"
CACHE_REMEDY = "Free some space, or name another folder with --cache_dir"


@contextmanager
def writing(path: Path | str, remedy: str = REMEDY) -> Iterator[None]:
    """Errors of the disk in this block become an OSError that names the file or folder and the remedy."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        if isinstance(error, OSError):
            reason = error.strerror
        else:  # safetensors, torch and datasets raise their own errors for a full disk
            text = str(error)
            closed = text.startswith("I/O operation on closed file")
            full = closed or "inline_container" in text or isinstance(error, SafetensorError)
            reason = f"the disk seems to be full ({text})" if full else None
        if reason is None:  # explained already, or not an error of the disk
            raise
        raise OSError(f"{path} cannot be written: {reason}. {remedy}, then rerun the same command") from error


@contextmanager
def replacing(path: Path, remedy: str = REMEDY, *, tag: str = "") -> Iterator[Path]:
    """A temporary path to write to, which replaces `path` when the block ends. After any error the former file stays.

    `tag`: up to 8 hex digits, an even number, by which `remove_partials_of` finds the temporary path.
    """
    with replacing_all([path], remedy, tag=tag) as [partial]:
        yield partial


@contextmanager
def replacing_all(paths: Sequence[Path], remedy: str = REMEDY, *, tag: str = "") -> Iterator[list[Path]]:
    """As `replacing`, for files of one folder: all are on the disk before the first takes its name."""
    folder = paths[0].parent
    made: dict[Path, int] = {}
    try:
        with writing(paths[0] if len(paths) == 1 else folder, remedy):
            folder.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(folder)
            for path in paths:
                assert path.parent == folder, "one rename per file, within one folder"
                # Nobody can guess this name to put a link there, and no other process writes under it.
                partial = path.with_name(f".{path.name}.{tag}{secrets.token_hex(8 - len(tag) // 2)}.partial")
                with open(partial, "x") as file:  # "x" follows no link
                    made[partial] = stat.S_IMODE(os.fstat(file.fileno()).st_mode)  # 0o666 less the umask
            yield list(made)
            for partial, mode in made.items():
                _set_mode(partial, mode)  # a library may have put a private file in its place
                sync(partial)  # some file systems report a full disk only now
            for partial, path in zip(made, paths):
                partial.replace(path)
    finally:
        for partial in made:  # after a success too: renaming a hard link onto its own file leaves both names
            partial.unlink(missing_ok=True)


def _set_mode(path: Path, mode: int) -> None:
    if stat.S_IMODE(path.stat().st_mode) != mode:
        with contextlib.suppress(PermissionError):  # a file system that has no modes
            path.chmod(mode)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by a file with this text. If the disk is full, the former file stays and OSError says so."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, content: Any) -> None:
    """`content` as indented UTF-8 JSON. Raises ValueError on nan and infinity."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def link_or_copy(source: Path, target: Path) -> None:
    """Replace `target` by `source`, its bytes copied only where the file system cannot link."""
    with replacing(target) as partial:
        partial.unlink()  # a link needs a free name
        try:
            os.link(source, partial)
        except OSError:
            shutil.copyfile(source, partial)


def check_no_folders(folder: Path, names: Iterable[str]) -> None:
    """Raises OSError if a folder has the name of a file that is to be written: the files before it would be left alone."""
    for name in names:
        if os.path.isdir(folder / name):
            raise OSError(
                f"{folder / name} cannot be written: it is a folder. Move it away, then rerun the same command"
            )


def partial_of(final: Path) -> Path:
    """Where the folder `final` is written before it gets its name."""
    return final.with_name(PARTIAL + final.name)


@contextmanager
def replacing_folder(final: Path) -> Iterator[Path]:
    """A new folder to write in, `partial_of(final)`, which replaces `final` when the block ends; deleted after an error."""
    partial, replaced = partial_of(final), final.with_name(REPLACED + final.name)
    with writing(final):
        remove(partial)
        partial.mkdir(parents=True)  # raises if a link was put there meanwhile
        try:
            yield partial
        except BaseException:
            remove(partial)  # a full disk is a likely reason: others need the space
            raise
        if os.path.lexists(final):
            remove(replaced)
            final.rename(replaced)
        partial.rename(final)
        sync(final.parent)
        remove(replaced)


def remove_partial(folder: Path) -> None:
    """Delete what killed processes were writing in `folder`; a folder that was being replaced gets its name back.

    Only for the one process that may write there: others' temporary paths are deleted too.
    """
    for replaced in folder.glob(f"{REPLACED}*"):
        final = replaced.with_name(replaced.name.removeprefix(REPLACED))
        if not os.path.lexists(final) and not replaced.is_symlink():
            replaced.rename(final)
    for partial in (*folder.glob(f"{PARTIAL}*"), *folder.glob(".*.partial")):
        remove(partial)


def remove_partials_of(path: Path, *, tag: str = "", seconds: float = 0) -> None:
    """Delete temporary files of `path`: those with this tag that have not changed for so long."""
    for partial in path.parent.glob(f".{path.name}.{tag}*.partial"):
        with contextlib.suppress(FileNotFoundError):  # another process deletes it too
            if time.time() - partial.lstat().st_mtime >= seconds:
                remove(partial)


def _remove_abandoned(folder: Path) -> None:
    """Delete temporary files of killed processes: those that have not changed for a day."""
    for path in folder.glob(ABANDONED):
        with contextlib.suppress(OSError):  # another process may be deleting it too
            newest = max(entry.lstat().st_mtime for entry in (path, *path.rglob("*")))
            if time.time() - newest > 24 * 3600:
                remove(path)


def remove(path: Path) -> None:
    """Delete a file, a folder or a link, never what a link leads to; no error if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def apply_umask(folder: Path) -> None:
    """Give the files below a folder that this process made the mode of new files; safetensors makes private ones."""
    mode = stat.S_IMODE(folder.stat().st_mode) & 0o666  # reading the umask itself would change it for other threads
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            _set_mode(path, mode)


def write_manifest(folder: Path) -> None:
    """Sizes and SHA-256 of all files below `folder`, written last, every byte forced to the disk."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found[path.relative_to(folder).as_posix()] = {"size": path.stat().st_size, "sha256": sha256(path)}
        sync(path)
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"files": found}, indent=1), encoding="utf-8")
    sync(manifest)
    for inner in [*(path for path in folder.rglob("*") if path.is_dir()), folder]:
        sync(inner)


def damage_of(folder: Path) -> str | None:
    """What is wrong with a folder that has a manifest, or None if it is whole. Raises nothing, whatever the files hold."""
    name = MANIFEST
    try:
        if not folder.is_dir():
            return "there is no such folder"
        if not (folder / MANIFEST).is_file():
            return f"{MANIFEST} is missing: the folder was never finished"
        expected = _files_of_manifest((folder / MANIFEST).read_bytes())
        if not expected:
            return f"{MANIFEST} is not one: no file's size and hash can be read from it"
        for name, size, digest in expected:
            path = folder / name
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                return f"{MANIFEST} lists {short(name)}, which is not in the folder"
            if not path.is_file():
                return f"{short(name)} is missing"
            if path.stat().st_size != size:
                return f"{short(name)} has {path.stat().st_size} bytes, {size} were written"
            if sha256(path) != digest:
                return f"{short(name)} is not what was written (its hash differs)"
    except (OSError, ValueError) as error:  # ValueError: a name that no path can have
        return f"{short(name)} cannot be read: {getattr(error, 'strerror', None) or 'not a valid file name'}"
    return None


def _files_of_manifest(content: bytes) -> list[tuple[str, int, str]]:
    """Name, size and SHA-256 of each file; empty if the content is not that of a manifest."""
    try:
        listed = json.loads(content)["files"]
        expected = [(name, file["size"], file["sha256"]) for name, file in listed.items()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
    valid = all(type(size) is int and 0 <= size < 1 << 63 and isinstance(digest, str) for _, size, digest in expected)
    return expected if valid else []


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 22):
            digest.update(chunk)
        return digest.hexdigest()


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def sync(path: Path) -> None:
    """Force a file's bytes, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
