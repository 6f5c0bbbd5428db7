"""python compare.py [fp32 bf16 q8_0 q4_k ...]: `host` beside whichever of the others is installed."""
import importlib.util
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
HOST = os.environ.get("HOST", os.path.join(HERE, "../../target/release/host"))
KEYS = ["prefill_tokens", "decode_1_tokens", "decode_batch_tokens", "choice_prompts"]
OURS = {"fp32": "dtype=fp32", "bf16": "dtype=bf16", "q8_0": "quant=q8_0", "q4_k": "quant=q4_k"}
OTHERS = [
    ("transformers", "with_transformers.py", ["fp32", "bf16"]),
    ("llama_cpp", "with_llama_cpp.py", ["bf16", "q8_0", "q4_k"]),
]


def figures(command):
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=HERE).stdout)


def show(name, all_of):
    cells = [f"{all_of[key + '_per_second']:8.2f}/s {all_of[key + '_processor_ms']:8.2f} ms" for key in KEYS]
    print(f"{name:20}", *cells, flush=True)


weights = os.environ.get("PEER_WEIGHTS", os.path.join(tempfile.gettempdir(), "peer-weights"))
print(f"{'':20}", *(f"{key:>22}" for key in KEYS))
for kind in sys.argv[1:] or OURS:
    ours = figures([HOST, "bench", "model", "--shape", "qwen3-0.6b", "-M", OURS[kind], "--json"])
    show(f"host {kind}", ours)
    for module, script, kinds in OTHERS:
        if kind not in kinds or importlib.util.find_spec(module) is None:
            continue
        theirs = figures([sys.executable, os.path.join(HERE, script), kind, weights])
        show(f"{theirs['model']} {kind}", theirs)
        ratios = []
        for key in KEYS:
            clock = ours[key + "_per_second"] / theirs[key + "_per_second"]
            processor = theirs[key + "_processor_ms"] / ours[key + "_processor_ms"]
            ratios.append(f"{clock:9.2f} x {processor:9.2f} x")
        print(f"{'  ratio':20}", *ratios, flush=True)
