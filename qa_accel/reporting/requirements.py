"""Whether what a report needs is installed: plotly and scipy, the extra `report`."""

from importlib.util import find_spec

HOW_TO_GET = "pip install 'qa-accel[report]'"


def missing(*, html: bool) -> list[str]:
    """Packages that are not there; scipy for the error analysis, plotly for the page."""
    return [name for name in ("scipy", *(["plotly"] if html else [])) if find_spec(name) is None]


def check_installed(*, html: bool) -> None:
    """Raises ValueError with the command that installs what is missing."""
    if names := missing(html=html):
        raise ValueError(f"reports need {' and '.join(names)}: {HOW_TO_GET}")
