"""One worker of a sweep: takes a trial that nobody has, trains it as a child process, writes its result; until none is left.

Workers share the sweep's folder and nothing else. A trial belongs to who holds its claim (`distributed.claims`), which the
kernel frees with the process; trial.json says how far it came. Who takes up an interrupted trial resumes its run.
"""

import contextlib
import itertools
import os
import socket
import time
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from qa_accel import files
from qa_accel.distributed import signals
from qa_accel.distributed.claims import Claims
from qa_accel.experiments import child_run, pruning, slurm_jobs, trials
from qa_accel.experiments.child_run import ChildResult, Evaluations
from qa_accel.experiments.random_sampler import RandomSampler
from qa_accel.experiments.tpe_sampler import TPESampler
from qa_accel.experiments.trials import FAILED, FINISHED, PRUNED, RUNNING, Metric, SweepPlan, Trial
from qa_accel.run_layout import SETTINGS, STOP_FILE
from qa_accel.terminal import visible

FAILURES_IN_A_ROW = 5
"""One more, and the worker stops: what fails so often fails for a reason that all trials share."""
SECONDS_FOR_ENDING_JOBS, SECONDS_BETWEEN_ANSWERS = 60, 2
"""How long a worker with nothing to do waits for jobs that end: Slurm gives their processes half a minute."""
BY_HAND = f"the file {STOP_FILE}"
"""As a run says it (`distributed.stop`): somebody has made it in a trial's folder, and means this trial alone."""


@dataclass(frozen=True)
class Taken:
    """A run whose claim this worker holds."""

    claim: str
    folder: Path
    trial: Trial


class Worker:
    """`work` does everything."""

    def __init__(
        self,
        folder: Path,
        plan: SweepPlan,
        refusal: Callable[[dict[str, Any]], str | None],
        say: Callable[[str], None] = print,
    ):
        """`refusal`: settings of a training run -> why they cannot be, or None.

        Raises ValueError if the folder has another plan, if its file system has no locks, or if a package is missing.
        """
        self.folder, self.refusal, self.say = folder, refusal, say
        self.claims = Claims(folder)
        with self._alone("plan"):
            trials.share_plan(folder, plan)
        self.plan = plan
        self.me = {"host": socket.gethostname(), "pid": os.getpid()} | slurm_jobs.own_job()
        self.sampler = self._make_sampler()
        self._failures = 0
        self._left_to_jobs: set[str] = set()

    def work(self) -> bool:
        """Train until no run is free. False if a signal stopped this worker, or somebody its run."""
        self._delete_leftovers()
        for take in (self._take_trial, self._take_confirmation):
            while (taken := self._patiently(take)) is not None:
                if signals.received() or not self._run(taken):
                    return False
                self.claims.give_back(taken.claim)
        self._say_what_is_left()
        return True

    def _make_sampler(self) -> RandomSampler | TPESampler:
        if self.plan.sampler == "random":
            return RandomSampler(self.plan.space, self.plan.seed)
        number = next(number for number in itertools.count() if self._claim(f"worker-{number}"))
        with self._alone("ask"):
            return TPESampler(self.folder, self.plan.space, self.plan.seed, number, self.claims)

    @contextlib.contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """One worker at a time."""
        self._claim(name, wait=True)
        try:
            yield
        finally:
            self.claims.give_back(name)

    def _claim(self, name: str, *, wait: bool = False) -> bool:
        """Raises ValueError where claims are not seen by others, from the start or since a moment."""
        taken = self.claims.take(name, wait=wait)
        if not self.claims.are_locks:
            raise ValueError(
                f"--output_dir {self.folder}: its file system has no locks, or refuses them now, by which workers share trials; "
                "take another folder, or start the same command again once it works"
            )
        return taken

    def _delete_leftovers(self) -> None:
        """Of a worker that was killed between the result of its run and the end of `_end`."""
        for folder in [*trials.trial_folders(self.folder), *trials.confirmation_folders(self.folder)]:
            name = self._name_of(folder)
            if next(folder.glob("checkpoint-*"), None) is not None and self._claim(name):
                trials.delete_what_a_resume_needs(folder, trials.read_trial(folder))
                self.claims.give_back(name)

    def _name_of(self, folder: Path) -> str:
        """A run's claim."""
        return str(folder.relative_to(self.folder))

    def _patiently(self, take: Callable[[], Taken | None]) -> Taken | None:
        """A run; if there is none, but some are left to jobs that end, again until Slurm knows whether these come back."""
        give_up = time.monotonic() + SECONDS_FOR_ENDING_JOBS
        while True:
            taken = take()
            if taken is not None or signals.received() or time.monotonic() > give_up:
                return taken
            if not slurm_jobs.ending(self._left_to_jobs):
                return None
            time.sleep(SECONDS_BETWEEN_ANSWERS)

    def _take_trial(self) -> Taken | None:
        """An interrupted trial, this job's own first, or else a new one; claimed."""
        if (taken := self._take_up(trials.trial_folders(self.folder))) is not None:
            return taken
        with self._alone("ask"):
            begun = trials.read_trials(self.folder)
            self.sampler.catch_up(begun)
            numbers = {trial.number for trial in begun}
            number = next((number for number in range(self.plan.trials) if number not in numbers), None)
            if number is None:
                return None
            trial = Trial(number, RUNNING, self.sampler.params(number), owner=self.me)
            return self._begin(trials.folder_of(self.folder, number), trial, trial.params)

    def _take_confirmation(self) -> Taken | None:
        """Once all trials have ended: a further seed of one of the best."""
        ended = trials.read_trials(self.folder)
        if len(ended) < self.plan.trials or not all(trial.has_ended for trial in ended):
            return None
        if (taken := self._take_up(trials.confirmation_folders(self.folder))) is not None:
            return taken
        with self._alone("ask"):
            begun = {(trial.confirms, trial.seed) for trial in trials.read_confirmations(self.folder)}
            for place, best, seed in trials.confirmations(self.plan, ended):
                if (best.number, seed) not in begun:
                    params = best.params | {"seed": seed}
                    trial = Trial(best.number, RUNNING, params, owner=self.me, confirms=best.number, seed=seed)
                    folder = trials.folder_to_confirm(self.folder, best.number, place, seed)
                    return self._begin(folder, trial, params)
        return None

    def _begin(self, folder: Path, trial: Trial, params: dict[str, Any]) -> Taken:
        """Claim a new run and write what it is. Only under the claim "ask"."""
        claim = self._name_of(folder)
        taken = self._claim(claim)
        assert taken, "nobody claims what has not begun, but under this claim"
        folder.mkdir(parents=True, exist_ok=True)
        recipe = self.plan.fixed | params | {"output_dir": str(folder)}
        files.write_text(folder / SETTINGS, yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))
        trials.write_trial(folder, trial)
        return Taken(claim, folder, trial)

    def _take_up(self, folders: Iterable[Path]) -> Taken | None:
        """Claim a run that its worker has left; not one whose job Slurm will start again."""
        mine = self.me.get("job")
        begun = [(folder, trials.read_trial(folder)) for folder in folders]
        open_ones = [(folder, trial) for folder, trial in begun if not trial.has_ended]
        open_ones.sort(key=lambda one: (mine is None or one[1].owner.get("job") != mine, one[1].number))
        self._left_to_jobs.clear()
        for folder, _ in open_ones:
            claim = self._name_of(folder)
            if not self._claim(claim):
                continue
            trial = trials.read_trial(folder)  # it may have ended before the claim was free
            if not trial.has_ended and not self._is_left_to_its_job(trial):
                return Taken(claim, folder, trial)
            self.claims.give_back(claim)
        return None

    def _is_left_to_its_job(self, trial: Trial) -> bool:
        job = trial.owner.get("job")
        if job is None or job == self.me.get("job") or not slurm_jobs.alive({job}):
            return False
        self._left_to_jobs.add(str(job))
        return True

    def _run(self, taken: Taken) -> bool:
        """Train it to its end and write the result. False if it was stopped before."""
        folder, name = taken.folder, taken.claim
        trial = replace(taken.trial, owner=self.me, began=taken.trial.began or time.time())
        settings = self.plan.fixed | trial.params | {"output_dir": str(folder)}
        reason = self.refusal(settings)
        if reason is not None:
            self._end(folder, name, replace(trial, state=FAILED, reason=reason))
            return True
        params = ", ".join(f"{key} {value}" for key, value in trial.params.items())
        self.say(visible(f"{name}{', taken up' if trial.starts else ''}: {params}"))
        for attempt in (1, 2):
            trial = replace(trial, starts=trial.starts + 1)
            trials.write_trial(folder, trial)
            trial, pruned, result = self._train(folder, trial)
            if result.state == "failed" and result.crashed and attempt == 1:
                self.say(visible(f"{name}: crashed ({result.reason}); started once more, from its last checkpoint"))
                continue
            break
        if not result.started:  # it had finished without us
            trial = replace(trial, starts=trial.starts - 1)
        if result.state == "stopped" and result.reason == BY_HAND and not signals.received():
            pruned = pruned or "stopped by hand (the file STOP)"
        if result.state == "stopped" and pruned is None:
            trials.write_trial(folder, trial)
            self.say(visible(f"{name}: stopped ({result.reason}); the same command goes on with it"))
            return False
        self._end(folder, name, self._ended(trial, pruned, result))
        return True

    def _train(self, folder: Path, trial: Trial) -> tuple[Trial, str | None, ChildResult]:
        """The trial with its evaluations, why it was pruned, and how the run ended."""
        pruned: str | None = None
        current = trial

        def on_evaluation(evaluations: Evaluations) -> bool:
            nonlocal pruned, current
            values = [
                [step, scores[self.plan.metric]]
                for step, scores in evaluations
                if trials.is_finite(scores.get(self.plan.metric))
            ]
            if not values:
                return False
            current = replace(current, evaluations=values, value=values[-1][1])
            trials.write_trial(folder, current)
            if trial.confirms is None:
                self.sampler.report(trial.number, len(values) - 1, values[-1][1])
                pruned = pruned or self._why_pruned(current)
            return pruned is not None

        result = child_run.train(folder / SETTINGS, folder, self.plan.launcher, on_evaluation=on_evaluation)
        return current, pruned, result

    def _why_pruned(self, trial: Trial) -> str | None:
        if self.plan.pruner == "none":
            return None
        others = [one for one in trials.whole_trials(self.folder) if one.number != trial.number]
        return pruning.why_hopeless([value for _, value in trial.evaluations], others)

    def _ended(self, trial: Trial, pruned: str | None, result: ChildResult) -> Trial:
        metric = self.plan.metric
        if result.state == "failed":
            return replace(trial, state=FAILED, value=None, reason=result.reason)
        if result.state == "stopped":
            return replace(trial, state=PRUNED, reason=pruned)
        if not trials.is_finite(result.scores.get(metric)):
            known = ", ".join(name for name in typing.get_args(Metric) if name in result.scores)
            reason = f"its results have no {metric}; --metric can be {known or 'nothing: give a validation_file'}"
            return replace(trial, state=FAILED, value=None, reason=reason)
        return replace(trial, state=FINISHED, value=float(result.scores[metric]), reason=None)

    def _end(self, folder: Path, name: str, trial: Trial) -> None:
        """Write the result, tell the sampler, delete what only a resume needs. Raises ValueError after too many failures in a row."""
        trial = replace(trial, ended=time.time())
        trials.write_trial(folder, trial)
        if trial.confirms is None:
            with self._alone("ask"):
                self.sampler.catch_up([trial])
        trials.delete_what_a_resume_needs(folder, trial)
        value = "" if trial.value is None else f", {self.plan.metric} {trial.value:.2f}"
        reason = "" if trial.reason is None else f" ({trial.reason})"
        self.say(visible(f"{name}: {trial.state}{value}{reason}"))
        self._failures = self._failures + 1 if trial.state == FAILED else 0
        if self._failures > FAILURES_IN_A_ROW:
            raise ValueError(
                f"{self._failures} trials in a row failed, the last one: {trial.reason}. Correct the space or the settings "
                f"and begin a sweep in another --output_dir; the output of a run is in {folder / child_run.LOG}"
            )

    def _say_what_is_left(self) -> None:
        begun = [*trials.read_trials(self.folder), *trials.read_confirmations(self.folder)]
        running = sum(not trial.has_ended for trial in begun)
        if self._left_to_jobs:
            self.say(
                f"left to their jobs, which Slurm starts again: trials of {', '.join(sorted(self._left_to_jobs))}. "
                "If these jobs do not come back, start the same command again once squeue does not list them"
            )
        if running:
            self.say(f"no trial is free; {running} are running elsewhere. Who ends the last one confirms the best")
        else:
            self.say(f"all {self.plan.trials} trials have ended: {self.folder}")
