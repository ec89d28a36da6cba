# What the jobs have in common; each of them sources it in the repository's folder.

source slurm/env.sh

ending=  # set when Slurm ends the whole job (scancel, its time limit, a preemption): then nothing is requeued from here
trap 'ending=yes' TERM
by_slurm="Slurm ends this job: not requeued from here. After a preemption or a node's death Slurm does that; else submit it again"
# meant for the training processes; `scancel --full` and `--signal=B:...` send them here too, and they would end the script
trap : USR1 USR2

# without $(...): a signal whose trap runs while bash reads one ends the script with a syntax error (seen with bash 5.2, when
# Slurm's TERM came right after `scontrol requeue`)
say() {
    printf '[job %s on %s, %(%F %T)T] %s\n' "$SLURM_JOB_ID" "${SLURMD_NODENAME:-${HOSTNAME%%.*}}" -1 "$*"
}

# setting NAME FLAGS...: what scripts/train.py would take for this setting, from a flag or else from the recipe
setting() {
    python -c 'import os, sys
from qa_accel import config
found = config.peek_setting(sys.argv[1], sys.argv[2:])
sys.stdout.buffer.write(os.fsencode(found) + b"\n")' "$@" # a path need not be UTF-8
}

# output_folder FLAGS...: output_dir -> REPLY, as a path that no program takes for an option
output_folder() {
    # $(...) cuts line breaks off the end, also those of a name: the x behind them keeps them
    REPLY=$(setting output_dir "$@" && printf x) || return
    REPLY=${REPLY%$'\nx'}
    case $REPLY in
        "") echo "output_dir is empty" >&2; return 2 ;;
        /*) ;;
        *) REPLY=./$REPLY ;;
    esac
}

# launch SCRIPT FLAGS...: run it on all processes of the job, one launcher on each node; 0 if all of them left with 0
launch() {
    local head
    # every node must find the first one: under the address that Slurm itself uses, which may be another than its name
    head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    HEAD_ADDRESS=$(scontrol show node "$head" --oneliner | sed -n 's/.* NodeAddr=\([^ ]*\).*/\1/p')
    if [ -z "$HEAD_ADDRESS" ]; then # rather no run than one on each node by itself
        say "Slurm gives no address for $head"
        return 2
    fi
    # jobs may share a node, and each has another number; the tasks of an array too
    HEAD_PORT=$((20000 + SLURM_JOB_ID % 20000))
    PROCESSES_PER_NODE=${PROCESSES_PER_NODE:-${SLURM_GPUS_ON_NODE:-1}}
    PROCESSES=$((SLURM_JOB_NUM_NODES * PROCESSES_PER_NODE))
    local threads=$((${SLURM_CPUS_PER_TASK:-1} / PROCESSES_PER_NODE))
    # else every process would take all CPUs of the node for itself
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 1 ? threads : 1))}
    # since 22.05 srun no longer takes this over from sbatch, and the step would get a single CPU
    export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
    export HEAD_ADDRESS HEAD_PORT PROCESSES_PER_NODE PROCESSES ACCELERATE_CONFIG LAUNCH_OPTIONS
    # --kill-on-bad-exit: when one node fails the others end too, instead of waiting for it until their time is over
    # --ntasks-per-node: one launcher per node, whatever the options of sbatch
    # --label: each line begins with its node's number
    srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --kill-on-bad-exit=1 --label bash slurm/node.sh "$@"
}

# train FLAGS...: pre-flight, then scripts/train.py; requeues the job if the run is to continue. Returns the job's exit code.
train() {
    local folder code marker signs crashes
    output_folder "$@" || return 2
    folder=$REPLY
    say "start $((${SLURM_RESTART_COUNT:-0} + 1)) on $SLURM_JOB_NODELIST: $folder"
    if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then
        if is_ours "$folder" && [ "$folder/all_results.json" -nt "$folder/.lock" ]; then
            say "an earlier start has finished the run"
            if [ ! -e "$folder/report.html" ]; then # that start ended between the scores and the report, an upload is then due too
                say "its report and an upload (--push_to_hub) are made by: scripts/report.py $folder"
                python scripts/report.py "$folder" || true
            fi
            return 0
        fi
        # the first start has already deleted or loaded what these flags name: now there are the run's own checkpoints
        if [ ! -e "$folder/all_results.json" ] && ls -d "$folder"/checkpoint-* >/dev/null 2>&1; then
            set -- "$@" --no_overwrite_output_dir --resume_from_checkpoint auto
        fi
    fi
    know_end
    if [ "$PREFLIGHT" = yes ] && ! launch scripts/preflight.py "$@"; then
        [ -z "$ending" ] || return 75
        say "pre-flight failed: see the findings above"
        return 2
    fi

    marker=$(stamp "$folder/stopped.json")
    signs=$(rank_lines "$folder")
    launch scripts/train.py "$@"
    code=$?
    if [ "$code" = 0 ] && [ -e "$folder/all_results.json" ]; then
        rm -f "$folder/crashes.txt"
        say "finished"
        return 0
    fi
    if [ -f "$folder/stopped.json" ] && [ "$(stamp "$folder/stopped.json")" != "$marker" ]; then
        say "stopped: $(tr -s ' \n' ' ' <"$folder/stopped.json" | printable)"
        rm -f "$folder/crashes.txt"
        if [ -n "$ending" ]; then
            say "$by_slurm"
        elif grep -q '"the file STOP"' "$folder/stopped.json"; then
            say "not requeued, since the stop was requested by hand; submit it again to continue"
        else
            requeue
        fi
        return 75
    fi
    [ "$code" != 0 ] || code=1 # neither finished nor stopped
    # with no new line from any rank the run was refused or failed before its first step: again would be the same again
    if is_ours "$folder" && [ -d "$folder/ranks" ] && [ "$(rank_lines "$folder")" != "$signs" ]; then
        say "the run ended without a checkpoint of its last steps (code $code). Last status of each process:"
        rank_lines "$folder" | sort -V
        crashes=$(count_crash "$folder")
        if [ -n "$ending" ]; then
            say "$by_slurm"
        elif [ "$crashes" -gt "$MAX_CRASHES" ]; then
            say "$crashes crashes in a row without a new checkpoint: not requeued (MAX_CRASHES in slurm/env.sh)"
        else
            requeue
        fi
    fi
    return "$code"
}

# predict FLAGS...: scripts/predict.py; with --shard_output requeued if a signal stopped it. Returns the job's exit code.
predict() {
    local code folder marker
    if [[ " $*" != *" --shard"[_-]"output"* ]]; then
        if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
            say "every task of this array would answer all questions: give --shard_output, or submit without --array"
            return 2
        fi
        launch scripts/predict.py "$@"
        return
    fi
    output_folder "$@" || return 2
    folder=$REPLY
    marker=$folder/stopped-$SLURM_JOB_ID.json
    launch scripts/predict.py "$@"
    code=$?
    [ "$code" = 0 ] && [ -f "$marker" ] || return "$code"
    say "stopped: $(tr -s ' \n' ' ' <"$marker" | printable)"
    if [ -n "$ending" ]; then
        say "$by_slurm"
    else
        requeue
    fi
    return 75
}

# sweep FLAGS...: one worker of a sweep, whose runs use the whole job; requeued if a signal stopped it, to go on with its trial
sweep() {
    local code worker=
    # Slurm's TERM may come to this script alone: the worker is to know that its run does not end by itself
    trap 'ending=yes; [ -z "$worker" ] || kill -TERM "$worker" 2>/dev/null' TERM
    know_end
    python scripts/sweep.py --launcher "bash slurm/launch.sh" "$@" &
    worker=$!
    [ -z "$ending" ] || kill -TERM "$worker"
    wait "$worker" # ends early when a signal comes
    while kill -0 "$worker" 2>/dev/null; do
        wait "$worker"
    done
    wait "$worker"
    code=$?
    [ "$code" = 75 ] || return "$code"
    if [ -n "$ending" ]; then
        say "$by_slurm"
    else
        requeue
    fi
    return 75
}

# SLURM_JOB_END_TIME, by which a run saves in time
know_end() {
    if [ -z "${SLURM_JOB_END_TIME:-}" ]; then # newer Slurms set it, older ones have to be queried
        SLURM_JOB_END_TIME=$(date -d "$(squeue -h -j "$SLURM_JOB_ID" -o %e)" +%s 2>/dev/null)
        export SLURM_JOB_END_TIME
    fi
}

# whether this job's process was the last to write in the folder
is_ours() {
    [ -f "$1/.lock" ] && grep -qs "\"slurm_job\": \"$SLURM_JOB_ID\"" "$1/.lock"
}

# the last line of each process of a run; files only, since a FIFO in their place would never end
rank_lines() {
    find "$1/ranks" -maxdepth 1 -type f -name 'rank-*.txt' -exec cat {} + 2>/dev/null | printable
}

# without control characters, which a log would hand to the terminal
printable() {
    tr '\000-\010\013-\037\177' '?'
}

# changes whenever a file is rewritten
stamp() {
    stat -c '%i %y' "$1" 2>/dev/null
}

# one more crash since the latest checkpoint; prints how many
count_crash() {
    local path latest before='' count='' new
    latest=$(for path in "$1"/checkpoint-*; do
        [[ ${path##*/} =~ ^checkpoint-[0-9]+$ ]] && echo "${path##*/}"
    done | sort -V | tail -n 1)
    latest=${latest:-none}
    [ ! -f "$1/crashes.txt" ] || read -r before count <"$1/crashes.txt"
    # bash would run the commands in an expression that is no number, and take one that begins with 0 for octal
    [[ $before = "$latest" && $count =~ ^[1-9][0-9]{0,5}$ ]] || count=0
    count=$((count + 1))
    # a new file in its place: the name could be a link to another one
    new=$(mktemp "$1/.crashes.XXXXXXXX") && echo "$latest $count" >"$new" && mv -fT "$new" "$1/crashes.txt"
    echo "$count"
}

# hand the job back to the queue; it begins again under the same number, on whatever nodes are free
requeue() {
    # an array's last task has the number of the whole array: that would requeue every task
    local self=$SLURM_JOB_ID
    [ -z "${SLURM_ARRAY_JOB_ID:-}" ] || self=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
    if [ "${SLURM_RESTART_COUNT:-0}" -ge "$MAX_REQUEUES" ]; then
        say "requeued $MAX_REQUEUES times already (MAX_REQUEUES in slurm/env.sh): submit it again to continue"
    elif scontrol requeue "$self"; then
        say "requeued"
        sleep 60 & wait # Slurm ends this script here
    else
        say "Slurm does not requeue this job; submit it again to continue"
    fi
}
