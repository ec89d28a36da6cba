"""Where torch's compiler keeps the kernels of a GPU."""

import os
from pathlib import Path

from huggingface_hub.constants import HF_HOME

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def keep() -> None:
    """In the cache of this user, so that the next run finds them: torch takes a temporary folder, which a job of a cluster often has
    for itself. Call it before the first compilation; has no effect where the variable is set.

    Not for a CPU: code for one may not run on another, and a home is often that of several machines.
    """
    os.environ.setdefault(VARIABLE, str(Path(HF_HOME) / "qa_accel" / "compiled"))
