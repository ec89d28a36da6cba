"""python scripts/summary.py runs/seeds/seed-*/all_results.json --output_file runs/seeds/summary.json

Mean and spread of each score over finished runs, as a table and, with --output_file, as JSON. No torch, no network.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from qa_accel import files
from qa_accel.commands import summary as spread


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS", help="all_results.json of each run")
    parser.add_argument("--output_file", type=Path, metavar="JSON", help="where to write the summary")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = read_arguments()
    try:
        # by the folder's name, without its path: the summary reads the same wherever the runs lie
        summed = spread.summary({path.parent.name: spread.read_scores(path) for path in arguments.results})
        if arguments.output_file:
            files.write_json(arguments.output_file, summed)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
    Console().print(spread.table(summed))
