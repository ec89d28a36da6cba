"""Results so far -> the settings of the next trial, by optuna's tree-structured Parzen estimator (TPE).

Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011. Workers share optuna's journal, a file in the
sweep's folder. The folder is the authority: what a killed worker did not tell the journal, the next one tells.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qa_accel.distributed.claims import Claims
from qa_accel.experiments.random_sampler import rounded, uniform
from qa_accel.experiments.space import Parameter
from qa_accel.experiments.trials import FAILED, FINISHED, PRUNED, Trial

if TYPE_CHECKING:
    import optuna

JOURNAL = "optuna.journal"
STUDY = "sweep"
GET_OPTUNA = "--sampler tpe needs the package optuna: pip install 'qa-accel[sweep]'; --sampler random needs none"


class TPESampler:
    """Trials of the journal and folders of the sweep have the same numbers.

    The methods must not be called by two workers at the same time, but for `report`.
    """

    def __init__(self, folder: Path, space: tuple[Parameter, ...], seed: int, worker: int, claims: Claims):
        """`worker`: a number that no other living worker has; two with one random state would ask for the same.

        Raises ValueError if optuna is not installed.
        """
        self.space, self.seed, self.worker = space, seed, worker
        self._study = _open_study(folder / JOURNAL, claims)

    def params(self, number: int) -> dict[str, Any]:
        """Setting -> value of the trial of this number, which the journal then has as a running one."""
        import optuna

        known = len(self._study.get_trials(deepcopy=False))
        # another state for each trial and worker; the sampler keeps nothing else
        state = int(uniform(self.seed, known, f"worker {self.worker}") * (1 << 32))
        self._study.sampler = optuna.samplers.TPESampler(seed=state, constant_liar=True)
        for _ in range(known, number + 1):
            self._study.ask()
        # one that a killed worker asked for has some of its values: these are given again
        return {one.name: _suggested(self._trial(number), one) for one in self.space}

    def report(self, number: int, evaluation: int, value: float) -> None:
        """Once per evaluation, counted from 0; a second time changes nothing."""
        trial = self._study.get_trials(deepcopy=False)[number]
        if not trial.state.is_finished() and evaluation not in trial.intermediate_values:
            self._trial(number).report(value, evaluation)

    def catch_up(self, trials: Iterable[Trial]) -> None:
        """Tell the results of these trials that the journal does not have yet."""
        import optuna

        states = {PRUNED: optuna.trial.TrialState.PRUNED, FAILED: optuna.trial.TrialState.FAIL}
        known = self._study.get_trials(deepcopy=False)
        for trial in trials:
            if not trial.has_ended or trial.number >= len(known) or known[trial.number].state.is_finished():
                continue
            for evaluation, (_, value) in enumerate(trial.evaluations):
                self.report(trial.number, evaluation, value)
            if trial.state == FINISHED and trial.value is not None:
                self._study.tell(trial.number, trial.value)
            else:
                self._study.tell(trial.number, state=states.get(trial.state, optuna.trial.TrialState.FAIL))

    def _trial(self, number: int) -> "optuna.Trial":
        import optuna

        return optuna.Trial(self._study, self._study.get_trials(deepcopy=False)[number]._trial_id)


def _suggested(trial: "optuna.Trial", parameter: Parameter) -> Any:
    name, low, high = parameter.name, parameter.low, parameter.high
    if parameter.kind == "choice":
        texts = [json.dumps(choice) for choice in parameter.choices]  # optuna has no lists among its choices
        return parameter.choices[texts.index(trial.suggest_categorical(name, texts))]
    assert low is not None and high is not None, "a range has both"
    if parameter.kind == "int":
        step = int(parameter.step or 1)
        return trial.suggest_int(name, int(low), int(high), step=step, log=parameter.log)
    return rounded(parameter, trial.suggest_float(name, low, high, step=parameter.step, log=parameter.log))


def _open_study(path: Path, claims: Claims) -> "optuna.Study":
    """The study in the journal, created if there is none."""
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise ValueError(GET_OPTUNA) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    lock: Any = KernelLock(path, claims)
    storage = JournalStorage(JournalFileBackend(str(path), lock))
    return optuna.create_study(storage=storage, study_name=STUDY, direction="maximize", load_if_exists=True)


class KernelLock:
    """The journal's lock, as optuna calls it: a claim, which the kernel frees with the process.

    optuna's own locks are files that a killed process leaves: everybody then waits for half a minute, and a holder that is
    only slow loses its lock.
    """

    def __init__(self, path: Path, claims: Claims):
        self.path, self.claims = path, claims

    def acquire(self) -> bool:
        self.claims.take(JOURNAL, wait=True)
        _cut_half_a_line(self.path)
        return True

    def release(self) -> None:
        self.claims.give_back(JOURNAL)


def _cut_half_a_line(path: Path) -> None:
    """Drop what a worker was writing when it was killed: with another line behind it the journal could not be read any more."""
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - (1 << 20)))  # optuna writes some hundred bytes at once
        end = file.read()
        if end and not end.endswith(b"\n"):
            file.truncate(size - len(end) + end.rfind(b"\n") + 1)
