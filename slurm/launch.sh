#!/bin/bash
# slurm/launch.sh SCRIPT FLAGS...: a script on all processes of the job it runs in; what a sweep's worker starts its runs by.
#
# Stop signals do not come this way: the worker asks a run to stop by a file, and Slurm signals the run's nodes itself.

source slurm/jobs.sh || exit 2
launch "$@"
