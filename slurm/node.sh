#!/bin/bash
# One node's part of a job: its launcher, which starts PROCESSES_PER_NODE workers. srun runs it on each node, so that
# variables here are expanded there: SLURM_NODEID is the node's own number, 0 on the first.
#
# Slurm's signals come to this script alone. The launcher would die of USR1, and make a failure of TERM half a minute later;
# so it ignores them, and the workers, who save and leave with code 0, get them from here.

(
    trap '' USR1 USR2 TERM
    # LAUNCH_OPTIONS is a list of words
    # rdzv_conf: nodes may start half a minute apart; do not wait a quarter of an hour for a node that never comes
    # max_restarts: one death ends this start; the job is requeued as a whole, with fresh addresses
    # shellcheck disable=SC2086
    exec accelerate launch --config_file "$ACCELERATE_CONFIG" \
        --num_machines "$SLURM_JOB_NUM_NODES" --num_processes "$PROCESSES" --machine_rank "$SLURM_NODEID" \
        --main_process_ip "$HEAD_ADDRESS" --main_process_port "$HEAD_PORT" \
        --rdzv_conf timeout=180 --max_restarts 0 $LAUNCH_OPTIONS "$@"
) &
launcher=$!

signal=
trap 'signal=USR1' USR1
trap 'signal=USR2' USR2
trap 'signal=TERM' TERM

wait "$launcher" # ends early when a signal comes
code=$?
[ -n "$signal" ] || exit "$code"
while kill -0 "$launcher" 2>/dev/null; do
    # again and again: at first there may be no workers yet, and those who have heard it once do not mind
    pkill "-$signal" --parent "$launcher"
    sleep 1 &
    wait $! # ends at once when another signal comes
done
wait "$launcher"
