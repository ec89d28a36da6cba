"""Files, a folder or a hub name -> a source of rows, and the hash of its bytes.

A folder of CSV, JSON or Parquet files is read file by file, as files that are named one by one. `datasets` only says
which file belongs to which split: its readers guess types, and an id 007 would become 7.
"""

import glob
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import datasets

from qa_accel.data.content_hash import content_hash
from qa_accel.data.file_rows import ROWS, Row, file_rows, reading_of
from qa_accel.input_files import require_regular
from qa_accel.messages import PATH, first_line, listed, quoted, short

logger = logging.getLogger(__name__)

READ_HERE = {".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet"}


@dataclass(frozen=True)
class Source:
    """Files, or one split of a data set."""

    name: str
    files: tuple[Path, ...] = ()
    dataset: datasets.Dataset | None = None
    split: str | None = None
    """train, validation or test, for files that hold several."""

    def hashes(self, cache_dir: Path) -> tuple[str, ...]:
        """Hash of each file's bytes, in order; independent of paths and times."""
        files = self.files
        if self.dataset is not None:
            files = tuple(Path(file["filename"]) for file in self.dataset.cache_files)
        assert files, "a data set that is kept on disk has files, and their bytes name it"
        return tuple(content_hash(file, cache_dir) for file in files)

    @property
    def readings(self) -> tuple[tuple[str, ...], ...]:
        """What decides beside the hashes about each file's rows; empty if nothing does."""
        found = tuple(reading_of(file, self.split) for file in self.files)
        return found if any(found) else ()

    def rows(self) -> Iterator[Row]:
        if self.dataset is not None:
            return dataset_rows(self.dataset, self.name)
        return chain.from_iterable(file_rows(file, self.split) for file in self.files)


def file_source(patterns: Sequence[str], setting: str) -> Source:
    files = find_files(patterns, setting)
    name = f"{files[0]} and {len(files) - 1} more" if len(files) > 1 else str(files[0])
    return Source(name, files=tuple(files), split=setting.removesuffix("_file"))


def dataset_source(
    name: str, config_name: str | None, split: str, cache_dir: str | None, id_column: str = "id"
) -> Source:
    """A split of a hub data set, of a folder of files, or of a folder that `save_to_disk` wrote."""
    splits = dataset_splits(name, config_name, cache_dir)
    if split not in splits:
        raise ValueError(
            f"--dataset_name {name}: has no split {split!r}; it has {listed(splits)}; "
            f"save a DatasetDict that has it, or give files (--{split}_file) in place of the data set"
        )
    source = splits[split]
    if source.dataset is not None:
        _warn_of_numbered_ids(source.dataset, name, id_column)
    return source


def dataset_splits(name: str, config_name: str | None, cache_dir: str | None) -> dict[str, Source]:
    folder = Path(os.path.expanduser(name))
    saved = any((folder / mark).is_file() for mark in ("dataset_dict.json", "state.json"))
    try:
        if saved:
            loaded = datasets.load_from_disk(str(folder), keep_in_memory=False)
        else:
            if folder.is_dir() and (files := _files_of_splits(folder, config_name, cache_dir)):
                return {split: Source(f"{name} ({split})", files=paths, split=split) for split, paths in files.items()}
            loaded = datasets.load_dataset(name, config_name, cache_dir=cache_dir, keep_in_memory=False)
    except Exception as error:  # hub, HTTP and format libraries each raise their own kinds
        remedy = "no folder of save_to_disk has this name, so it was looked up on the hub and in its local cache: check the name, "
        if folder.is_dir():
            remedy = "the folder holds neither what save_to_disk writes nor files that `datasets` assigns to splits: check it, "
        remedy += "or give --train_file and --validation_file, which need no network"
        raise ValueError(
            f"--dataset_name {name}: cannot be loaded ({first_line(error)}); "
            f"{'save the folder again' if saved else remedy}"
        ) from error
    if isinstance(loaded, datasets.Dataset):
        # A dataset without a split name may be trained on or answered, not evaluated on: these are the same questions.
        names = [str(loaded.split)] if loaded.split is not None else ["train", "test"]
        loaded = dict.fromkeys(names, loaded)
    found = {str(key): split for key, split in loaded.items() if isinstance(split, datasets.Dataset)}
    return {key: Source(f"{name} ({key})", dataset=split) for key, split in found.items()}


def _files_of_splits(folder: Path, config_name: str | None, cache_dir: str | None) -> dict[str, tuple[Path, ...]]:
    """The folder's files by split, as `datasets` assigns them; empty if only `datasets` can read them."""
    found = datasets.load_dataset_builder(str(folder), config_name, cache_dir=cache_dir).config.data_files or {}
    splits = {str(split): tuple(map(Path, paths)) for split, paths in found.items()}
    readable = [_is_read_here(path) for paths in splits.values() for path in paths]
    return splits if all(readable) else {}


def _is_read_here(path: Path) -> bool:
    name = path.with_suffix("") if path.suffix == ".gz" else path
    return path.is_file() and name.suffix.lower() in READ_HERE


def _warn_of_numbered_ids(dataset: datasets.Dataset, name: str, id_column: str) -> None:
    feature = dataset.features.get(id_column)
    if dataset.info.builder_name == "csv" and isinstance(feature, datasets.Value) and feature.dtype != "string":
        logger.warning(
            "--dataset_name %s: `datasets` read the column %s of a CSV file as %s, so an id 007 has become 7; if the file "
            "has such ids, give it as --train_file, --validation_file or --test_file",
            *(name, quoted(id_column), feature.dtype),
        )


def find_files(patterns: Sequence[str], setting: str) -> list[Path]:
    """The files that paths and globs match, each glob sorted by name."""
    files: list[Path] = []
    for pattern in patterns:
        path = Path(os.path.expanduser(pattern))  # unlike Path.expanduser, leaves the home of an unknown user as it is
        try:
            is_folder, exists = path.is_dir(), path.exists()
        except OSError as error:
            raise ValueError(f"--{setting} {short(pattern, PATH)}: {error.strerror}") from error
        if is_folder:
            raise ValueError(
                f"--{setting} {pattern}: is a folder; name files or a glob such as {pattern.rstrip('/')}/*.json"
            )
        if exists:
            require_regular(path)
            files.append(path)
            continue
        found = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
        if not found:
            reason = "the glob matches no file" if glob.has_magic(pattern) else "there is no such file"
            raise ValueError(f"--{setting} {pattern}: {reason} (looked from {Path.cwd()})")
        files += found
    return files


def dataset_rows(dataset: datasets.Dataset, name: str) -> Iterator[Row]:
    number = 0
    for table in dataset.with_format("arrow").iter(ROWS):
        for values in table.to_pylist():  # type: ignore[union-attr]
            number += 1
            yield Row(name, number, "", values)
