"""Fine-tune a model on every process that accelerate started; evaluate it, keep the best, write the final folder."""

import gc

from qa_accel.distributed.stop import StopRequested, exit_code
from qa_accel.training.build import build
from qa_accel.training.log import NonFiniteLoss
from qa_accel.training.settings import TrainConfig
from qa_accel.training.stage_timer import StageTimer

Config = TrainConfig


def run(settings: TrainConfig, timer: StageTimer | None = None) -> int:
    """Train, evaluate, write `output_dir`. All ranks must call; rank 0 writes.

    `timer`: one that has run since the process began. Returns the exit code: 0, or that of a stopped run. Raises
    ValueError for settings or data that cannot work, for a loss that is not finite, and on rank 0 for a finished run that
    could not be pushed. The process group is gone after a finished run.
    """
    timer = timer or StageTimer()
    trainer = build(settings, timer)
    # objects that are alive now stay: a full collection would stop the loop for a third of a second to find that out
    gc.collect()
    gc.freeze()
    stopped = False
    with trainer.metrics:
        try:
            with trainer.metrics.bar:
                try:
                    trainer.train()
                except StopRequested:
                    stopped = True
                    trainer.save_and_exit()
            trainer.stop.close()
            if trainer.loss.compiled:
                trainer.console.print(f"compiled graphs: {trainer.loss.graphs}")
            if not stopped:
                trainer.publish()
            trainer.rank_status.ended()
        except NonFiniteLoss as error:
            trainer.rank_status.failed(error)
            raise ValueError(trainer.describe_bad_step(error)) from error
        except BaseException as error:
            trainer.rank_status.failed(error)
            raise
        if not stopped:
            trainer.part()  # nothing that needs all ranks may come after it
            trainer.present()
    if stopped:
        return exit_code()
    trainer.push()
    return 0
