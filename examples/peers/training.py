"""python training.py [arc long full qlora ...]: steps of training here and by PEFT or transformers, in turns.

Each line: tokens a second of processor time of both, the ratio (above 1 this project is faster), and each side's peak
memory. `cargo build --release -p train --example step` builds what is measured here; STEP names another build of it.
Random weights of the shape of Qwen3-0.6B, or for `full` of SmolLM2-135M, are made where they are not there yet."""
import argparse
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
STEP = os.environ.get("STEP", os.path.join(HERE, "../../target/release/examples/step"))
WEIGHTS = os.environ.get("PEER_WEIGHTS", os.path.join(tempfile.gettempdir(), "peer-training"))
ARC, LONG = {"rows": 4, "tokens": 80, "learnt": 4}, {"rows": 1, "tokens": 1024, "learnt": 1024}
WORK = {
    "arc": ("0.6b", "lora", ARC, ["fp32", "bf16"]),
    "long": ("0.6b", "lora", LONG, ["fp32", "bf16"]),
    "full": ("135m", "full", ARC, ["fp32", "bf16"]),
    "qlora": ("0.6b", "qlora", ARC, ["fp32", "bf16"]),
}
SHAPES = {
    "0.6b": dict(vocab_size=151_936, hidden_size=1024, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8,
                 head_dim=128, intermediate_size=3072),
    "135m": dict(vocab_size=49_152, hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
                 head_dim=64, intermediate_size=1536),
}
# What keeps the libraries of the other side to the same instructions as HOST_KERNELS keeps this one.
LIMITS = {
    "avx2": {"HOST_KERNELS": "avx2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "all": {},
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("work", nargs="*", help=f"{', '.join(WORK)}; all, if none is named")
parser.add_argument("--dtype", choices=["fp32", "bf16"], help="this one alone")
parser.add_argument("--instructions", default="all", choices=LIMITS, help="the most that both sides may use")
parser.add_argument("--steps", type=int, default=2, help="measured; one before them is not")
parser.add_argument("--layers", type=int, help="fewer than the shape has, of the same widths")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--alone", action="store_true", help="this project's side only")
wanted = parser.parse_args()


def weights(shape):
    """A folder of random weights of a shape, in bf16."""
    of_shape = SHAPES[shape] | ({"num_hidden_layers": wanted.layers} if wanted.layers else {})
    folder = os.path.join(WEIGHTS, f"{shape}-{of_shape['num_hidden_layers']}")
    if not os.path.exists(os.path.join(folder, "config.json")):
        import torch
        import transformers

        torch.manual_seed(0)
        config = transformers.Qwen3Config(**of_shape, tie_word_embeddings=True, max_position_embeddings=4096)
        transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def figures(command):
    threads = {name: str(wanted.threads) for name in ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"]}
    environment = os.environ | threads | LIMITS[wanted.instructions]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.strip().splitlines()[-1])


print(f"{'':18}{'here':>10}{'PEFT':>10}{'ratio':>8}{'MB here':>10}{'MB PEFT':>10}")
for name in wanted.work or WORK:
    shape, method, rows, dtypes = WORK[name]
    for dtype in [wanted.dtype] if wanted.dtype else dtypes:
        folder = weights(shape)
        keys = [f"{key}={value}" for key, value in rows.items()]
        here = figures([STEP, folder, *keys, f"steps={wanted.steps}", f"method={method}", f"precision={dtype}"])
        line = f"{name + ' ' + dtype:18}{here['tokens_per_processor_second']:10.1f}"
        if method == "qlora" or wanted.alone:
            # PEFT's needs bitsandbytes; this one is held against LoRA's step here.
            print(f"{line}{'':18}{here['peak_memory_mb']:10}", flush=True)
            continue
        flags = [part for key, value in rows.items() for part in (f"--{key}", str(value))]
        script = os.path.join(HERE, "training_peft.py")
        peer = figures([sys.executable, script, folder, *flags, "--steps", str(wanted.steps), "--method", method, "--dtype", dtype])
        ratio = here["tokens_per_processor_second"] / peer["tokens_per_processor_second"]
        print(f"{line}{peer['tokens_per_processor_second']:10.1f}{ratio:8.2f}{here['peak_memory_mb']:10}{peer['peak_memory_mb']:10}", flush=True)
