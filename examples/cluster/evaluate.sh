#!/bin/sh
# One run, split over an array of jobs; submit it again after a requeue or a time limit, and it goes on.
#
#   MODEL=qwen3 TASK=arc sbatch --array=0-15 examples/cluster/evaluate.sh
#   host join "$RUNS"/qwen3-arc-*-shard-*-of-16
#
# Cost: each job loads the model once; samples are dealt by hash, so that jobs end at about the same time.
#SBATCH --job-name=host-evaluate
#SBATCH --array=0-15
#SBATCH --time=01:00:00
#SBATCH --cpus-per-task=8
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
set -eu
: "${MODEL:?the model, by its registry name}" "${TASK:?the task, by its registry name}"
RUNS=${RUNS:-${SCRATCH:-.}/runs}
# SLURM_ARRAY_TASK_COUNT is what the array has; an array that does not begin at 0 must not change who gets what.
INDEX=$((SLURM_ARRAY_TASK_ID - ${SLURM_ARRAY_TASK_MIN:-0}))
export RAYON_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}
# `exec`, so that the signal before the time limit reaches `host`, which ends what it has begun and exits with 130.
exec srun host run --model "$MODEL" --task "$TASK" --shard "$INDEX/$SLURM_ARRAY_TASK_COUNT" --out "$RUNS" --quiet "$@"
