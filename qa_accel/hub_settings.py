"""The settings of an upload to the hub."""

import re
from dataclasses import dataclass

from qa_accel.messages import short

BRANCH = re.compile(r"(?!.*(\.\.|//|\.lock$))[A-Za-z0-9_][A-Za-z0-9_./-]*(?<![./])")


@dataclass(frozen=True)
class HubConfig:
    push_to_hub: bool = False
    """Upload model, tokenizer, card, scores and report.html to the hub at the end, and nothing else. The token is that of HF_TOKEN
    or of `hf auth login`."""
    hub_model_id: str | None = None
    """Repository to upload to, as OWNER/NAME or NAME. None takes the folder's name; without an owner it is the token's."""
    hub_private_repo: bool | None = None
    """Whether a repository that is created is private; None: as the owner's account creates them. With `true` a public repository
    that exists is refused."""
    hub_revision: str | None = None
    """Branch to upload to, created if it is missing; None: main."""

    def __post_init__(self):
        if self.hub_model_id is not None:
            check_id(self.hub_model_id, "--hub_model_id")
        if self.hub_revision is not None and not BRANCH.fullmatch(self.hub_revision):
            raise ValueError(
                f"--hub_revision {short(self.hub_revision)}: is no name of a branch; use letters, digits, -, _, . and /"
            )


def check_id(name: str, place: str, remedy: str = "") -> None:
    """Raises ValueError, with `place` before it, for what cannot be the name of a repository."""
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except ValueError:
        raise ValueError(
            f"{place} {short(repr(name))}: is no id of a repository: expected OWNER/NAME or NAME, of letters, digits, -, _ "
            f"and ., at most 96 each, none of -- or .. in it, no - or . at an end, no .git at the end{remedy}"
        ) from None
