"""What every test may rely on: no network, one thread per process, the real data next to the checkout (or a skip)."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed looks for a device when it is imported

if (
    "TORCHINDUCTOR_CACHE_DIR" not in os.environ
):  # compiled code of another session, for another CPU, can abort the process
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(prefix="inductor-")
    atexit.register(shutil.rmtree, os.environ["TORCHINDUCTOR_CACHE_DIR"], ignore_errors=True)

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from toy import Toy
    from training_runs import Trainer

# a busy machine is slow: neither an example of 0.2 s nor data that take a second to draw are a failure
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `cuda` where there is no GPU."""
    marked = [item for item in items if item.get_closest_marker("cuda") is not None]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and models next to the checkout; it is never part of it."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "data" / "squad_v2" / "dev.json").is_file():
        pytest.skip("real SQuAD data and models are not next to this checkout (../shared)")
    return folder


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> "Toy":
    """A tiny task and models for it, made once; nothing may write into its folder."""
    from toy import make_toy

    return make_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def trainer(toy, tmp_path_factory) -> "Trainer":
    """Starts runs on the toy, with one cache."""
    from training_runs import Trainer

    return Trainer(toy, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium, or a skip with the reason."""
    from browsers import opened_browser

    with opened_browser(tmp_path_factory.mktemp("home")) as opened:
        yield opened


@pytest.fixture
def opened(browser):
    """A function that opens a page, and lists of what it requested and complained about."""
    from browsers import page_opener

    with page_opener(browser) as open_page:
        yield open_page
