#!/bin/bash
# slurm/pipeline.sh --config scripts/recipes/squad_v2.yaml --output_dir runs/mine -- --test_file data/questions.json
#
# Submits three jobs, each of which waits for the one before: prepare.sbatch and train.sbatch with the flags before the `--`,
# predict.sbatch with those after it. The answers go to output_dir/answers. Prints the jobs' numbers.
set -euo pipefail
[ -f slurm/jobs.sh ] || { echo "call this from the repository's folder" >&2; exit 2; }
source slurm/jobs.sh

training=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    training+=("$1")
    shift
done
[ $# -gt 0 ] || { echo "flags for the prediction are missing: ... -- --test_file questions.json" >&2; exit 2; }
shift
output_folder "${training[@]}"
folder=$REPLY

# afterok: begins when the one before has left with code 0; a requeue in between does not count as an end
# kill-on-invalid-dep: when that cannot come any more, the job goes, rather than wait in the queue for ever
after() {
    echo "--dependency=afterok:$1 --kill-on-invalid-dep=yes"
}
# TRAIN_JOB, CPU_JOB and what `after` prints are lists of words
# shellcheck disable=SC2046,SC2086
{
    prepare=$(sbatch --parsable $CPU_JOB slurm/prepare.sbatch "${training[@]}")
    train=$(sbatch --parsable $TRAIN_JOB $(after "$prepare") slurm/train.sbatch "${training[@]}")
    predict=$(sbatch --parsable $TRAIN_JOB $(after "$train") slurm/predict.sbatch \
        --model_name_or_path "$folder" --output_dir "$folder/answers" "$@")
}
echo "prepare $prepare, train $train, predict $predict"
