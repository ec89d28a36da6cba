"""Settings that name files and folders of one machine -> their names alone: cards and reports are passed on."""

import os
from collections.abc import Collection, Mapping
from typing import Any

from qa_accel import config
from qa_accel.data.named_sets import name_and_path
from qa_accel.hub import is_hub_id
from qa_accel.hub_settings import HubConfig

FILES = ("train_file", "validation_file", "test_file")
PLACES = ("output_dir", "cache_dir", "resume_from_checkpoint")
LISTS_OF_PLACES = (*FILES, "runs")
NAMES_OR_PLACES = ("model_name_or_path", "tokenizer_name", "dataset_name", "teacher")

NOT_REPEATED = {
    *("cache_dir", "overwrite_output_dir", "resume_from_checkpoint", "resume_with_changed_settings"),
    *("trust_checkpoint", "max_train_hours", "report_to", "project_name", *config.setting_types(HubConfig)),
}
"""Settings that a repetition has its own of."""
PER_RUN = NOT_REPEATED | {"output_dir"}
"""Settings that differ from run to run without a change of what is learnt or answered."""


def public(settings: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Settings of these names as others may see them, in the settings' order; a data set that is not read is left out."""
    unused = ("dataset_name", "dataset_config_name") if any(settings.get(name) for name in FILES) else ()
    kept = (name for name in settings if name in names and name not in unused)
    return {name: without_place(name, settings[name]) for name in kept}


def without_place(name: str, value: Any) -> Any:
    """A setting's value without the folders that lead to a file."""
    if name in LISTS_OF_PLACES and value is not None:
        names = map(_last_part_of_set, [value] if isinstance(value, str) else map(str, value))
        return [f"./{one}" if one.startswith("-") else one for one in names]  # else it would be a flag
    if isinstance(value, list):
        return [without_place(name, one) for one in value]
    # settings of other versions too, whatever they are called
    is_place = (name in PLACES and value not in ("auto", "no")) or str(value).startswith(("/", "~"))
    if isinstance(value, str) and (is_place or (name in NAMES_OR_PLACES and not is_hub_id(value))):
        return last_part(value)
    return value


def spelled(name: str, value: Any) -> str:
    """A setting's value as a person may read it, without the folders that lead to a file."""
    shown = without_place(name, value)
    return " ".join(map(str, shown)) if isinstance(shown, list) else str(shown)


def _last_part_of_set(pattern: str) -> str:
    name, path = name_and_path(pattern)
    return name + last_part(path)


def last_part(path: str) -> str:
    return os.path.basename(os.path.abspath(path)) or path
