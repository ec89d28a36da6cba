"""Mean, spread and 95 % interval of each score over finished runs that differ in their seed and in nothing else.

python scripts/summary.py runs/seeds/seed-*/all_results.json --output_file runs/seeds/summary.json

Prints a table and, with --output_file, writes JSON. Runs that differ in more than the seed are refused, with the difference.
No torch, no network.
"""

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class SummaryConfig:
    results: tyro.conf.Positional[tuple[Path, ...]]
    """all_results.json of each run."""
    output_file: Path | None = None
    """Where to write the summary as JSON."""


Config = SummaryConfig
