#!/bin/sh
# One training on several processes, one a GPU. The same script goes on from the last checkpoint.
#
#   sbatch --nodes=1 --ntasks-per-node=4 --gpus-per-node=4 examples/cluster/train.sh examples/recipes/mine.toml
#
# Cost: full fine-tuning sums gradients of all parameters after each step, a LoRA those of its factors alone.
#SBATCH --job-name=host-train
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=4
#SBATCH --time=08:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
set -eu
: "${1:?a configuration of host train}"
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=${MASTER_PORT:-29500}
export MASTER_ADDR MASTER_PORT
# Rank and size are read from Slurm's variables, as they are from torchrun's.
exec srun host train --config "$@"
