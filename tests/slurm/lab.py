"""A cluster, and on it a copy of the project whose slurm/env.sh is a site's: what a user of that site would have."""

import json
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import Cluster
from toy import WINDOWS, Toy, flags

REPOSITORY = Path(__file__).resolve().parents[2]

ENV = """\
TRAIN_JOB="${{TEST_JOB:---nodes=2 --cpus-per-task=2}}"
CPU_JOB=
export PATH={programs}:$PATH PYTHONPATH=$PWD
PROCESSES_PER_NODE=${{TEST_PROCESSES:-2}}
ACCELERATE_CONFIG=accelerate_configs/multi_node.yaml
LAUNCH_OPTIONS="--mixed_precision no"
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=
PREFLIGHT=${{TEST_PREFLIGHT:-yes}}
MAX_REQUEUES=${{TEST_REQUEUES:-3}}
MAX_CRASHES=1
"""


@dataclass(frozen=True)
class Site:
    cluster: Cluster
    toy: Toy

    @classmethod
    def make(cls, cluster: Cluster, toy: Toy) -> "Site":
        site = cls(cluster, toy)
        for part in ("qa_accel", "scripts", "accelerate_configs", "slurm"):
            shutil.copytree(REPOSITORY / part, site.project / part, ignore=shutil.ignore_patterns("__pycache__"))
        programs = Path(sys.executable).parent
        (site.project / "slurm" / "env.sh").write_text(ENV.format(programs=programs))
        return site

    @property
    def project(self) -> Path:
        return self.cluster.folder / "project"

    def folder(self, name: str) -> Path:
        return self.project / "runs" / name

    def training(self, name: str, **settings: Any) -> list[str]:
        """Flags of a run on the toy that takes some seconds."""
        usual = dict(model_name_or_path=self.toy.model, train_file=self.toy.train, validation_file=self.toy.dev)
        usual |= dict(per_device_train_batch_size=2, learning_rate=3e-3, logging_steps=4, n_best_size=4)
        usual |= dict(num_train_epochs=6, cache_dir=self.project / "cache", output_dir=f"runs/{name}", **WINDOWS)
        return flags(**usual | settings)

    def shell(self, command: str, *words: str, **environment: str) -> str:
        """What a line prints that is typed in the project's folder on the host of the controller."""
        return self.cluster.run("bash", "-c", command, "shell", *words, cwd=self.project, environment=environment)

    def sbatch(self, options: str, *words: str, **environment: str) -> str:
        """Submit as the job files' first lines say; returns the job's number."""
        command = f'source slurm/env.sh && sbatch --parsable {options} "$@"'
        return self.shell(command, *words, **environment).partition(";")[0]

    def train(self, name: str, *, options: str = "", environment: dict[str, str] | None = None, **settings: Any) -> str:
        words = self.training(name, **settings)
        return self.sbatch(f"$TRAIN_JOB {options} slurm/train.sbatch", *words, **environment or {})

    def log(self, job: str) -> str:
        """All that the job, every start of it, has written."""
        found = sorted(self.project.glob(f"*-{job}.out")) + sorted(self.project.glob(f"*-{job}-*.out"))
        return "".join(path.read_text(errors="replace") for path in found)

    def finished(self, job: str, limit: float = 300) -> str:
        """Wait for a job's good end; its log."""
        ended = self.cluster.ended(job, limit)
        assert ended["JobState"] == "COMPLETED", f"{ended}\n{self.log(job)}"
        return self.log(job)

    def says(self, job: str, words: str, limit: float = 180) -> None:
        """Wait for these words in the job's log."""
        self.cluster.wait_for(lambda: words in self.log(job), limit, lambda: f"{words!r} in\n{self.log(job)}")

    def trains(self, name: str, step: int, limit: float = 180) -> None:
        """Wait until every rank of the run has passed this step."""

        def passed() -> bool:
            lines = [path.read_text() for path in (self.folder(name) / "ranks").glob("rank-*.txt")]
            steps = [int(found[1]) for line in lines if (found := re.search(r"running, step (\d+)", line))]
            return len(steps) == len(lines) > 0 and min(steps) >= step

        self.cluster.wait_for(passed, limit, lambda: self.cluster.run("squeue"))

    def restarts(self, job: str) -> int:
        return int(self.cluster.job(job)["Restarts"])

    def marker(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder(name) / "stopped.json").read_text())


def environment() -> dict[str, str]:
    """For a process of the same kind next to the cluster."""
    return os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_MIXED_PRECISION": "no", "CUDA_VISIBLE_DEVICES": ""}
