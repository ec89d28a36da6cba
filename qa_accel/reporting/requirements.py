"""Whether what a report needs is installed: plotly and scipy, the extra `report`."""

from importlib.util import find_spec


def why_not(*, html: bool) -> str | None:
    """The packages that are missing, with the command that installs them, or None; scipy for the error analysis, plotly for the
    page."""
    missing = [name for name in ("scipy", *(["plotly"] if html else [])) if find_spec(name) is None]
    return f"reports need {' and '.join(missing)}: pip install 'qa-accel[report]'" if missing else None


def check_installed(*, html: bool) -> None:
    """Raises ValueError for what is missing."""
    if (reason := why_not(html=html)) is not None:
        raise ValueError(reason)
