"""Where a run's wall time goes. No torch here: importing it is the first thing that is timed."""

import time


class StageTimer:
    """Seconds of each stage. A stage that comes again adds up; all stages together are the time since the clock was made."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def end_stage(self, stage: str) -> float:
        """All that happened since the last call was `stage`; returns how many seconds that were."""
        now = time.perf_counter()
        passed, self._since = now - self._since, now
        self.seconds[stage] = self.seconds.get(stage, 0.0) + passed
        return passed

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    def __str__(self) -> str:
        """Stages by their length, in seconds; those under a fiftieth of the whole are left out."""
        longest_first = sorted(self.seconds.items(), key=lambda entry: -entry[1])
        return ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in longest_first if seconds >= self.total / 50)
