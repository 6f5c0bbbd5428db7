#!/bin/sh
# A vLLM or SGLang server as the engine behind the model `openai`, and an evaluation against it in the same job.
#
#   ENGINE=vllm SERVED=Qwen/Qwen3-32B TASK=arc sbatch --gpus=4 examples/cluster/serve.sh
#   ENGINE=sglang SERVED=Qwen/Qwen3-32B TASK=arc sbatch --gpus=4 examples/cluster/serve.sh
#
# Cost: the server holds one copy of the weights over all GPUs of the job, and batches what the host sends. Options are
# scored by reading each of them: four readings a sample with four options.
#SBATCH --job-name=host-serve
#SBATCH --time=04:00:00
#SBATCH --gpus=4
set -eu
: "${SERVED:?the served model: a hub id or a folder}" "${TASK:?the task, by its registry name}"
PORT=${PORT:-8000}
GPUS=${SLURM_GPUS:-1}
case ${ENGINE:-vllm} in
    vllm) vllm serve "$SERVED" --port "$PORT" --tensor-parallel-size "$GPUS" --generation-config vllm & ;;
    sglang) python3 -m sglang.launch_server --model-path "$SERVED" --port "$PORT" --tp "$GPUS" --sampling-defaults openai & ;;
    *) echo "ENGINE is vllm or sglang, not $ENGINE" >&2; exit 2 ;;
esac
SERVER=$!
trap 'kill "$SERVER" 2>/dev/null || true' EXIT
# A server that ends before it answers ends the job; one that is still loading is waited for.
until curl --silent --fail "http://127.0.0.1:$PORT/v1/models" >/dev/null 2>&1; do
    kill -0 "$SERVER" 2>/dev/null || { echo "the server ended before it answered" >&2; exit 3; }
    sleep "${WAIT:-5}"
done
host run --model openai --task "$TASK" -M "base_url=http://127.0.0.1:$PORT/v1" -M "model=$SERVED" \
    -M "tokenizer=${TOKENIZER:-$SERVED}" --out "${RUNS:-${SCRATCH:-.}/runs}" --quiet "$@"
