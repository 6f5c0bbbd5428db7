"""python compare.py [--rounds N] [fp32 bf16 q8_0 q4_k ...]: `host` beside whichever of the others is installed."""
import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
HOST = os.environ.get("HOST", os.path.join(HERE, "../../target/release/host"))
WEIGHTS = os.environ.get("PEER_WEIGHTS", os.path.join(tempfile.gettempdir(), "peer-weights"))
KEYS = ["prefill_tokens", "decode_1_tokens", "decode_batch_tokens", "choice_prompts"]
OURS = {"fp32": "dtype=fp32", "bf16": "dtype=bf16", "q8_0": "quant=q8_0", "q4_k": "quant=q4_k"}
OTHERS = [
    ("transformers", "with_transformers.py", ["fp32", "bf16"]),
    ("llama_cpp", "with_llama_cpp.py", ["bf16", "q8_0", "q4_k"]),
]

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("kinds", nargs="*", help="what weights are stored as; all, if none is named")
parser.add_argument("--rounds", type=int, default=1, help="each of them so often, in turns; medians are told")
parser.add_argument("--only", help="beside this one alone: transformers or llama_cpp")
wanted = parser.parse_args()


def figures(command):
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=HERE).stdout)


def show(name, all_of):
    cells = [f"{all_of[key + '_per_second']:8.2f}/s {all_of[key + '_processor_ms']:8.2f} ms" for key in KEYS]
    print(f"{name:20}", *cells, flush=True)


def middle(rounds):
    """Of each figure the median of all rounds."""
    keys = [key + what for key in KEYS for what in ["_per_second", "_processor_ms"]]
    return {key: statistics.median(one[key] for one in rounds) for key in keys}


print(f"{'':20}", *(f"{key:>22}" for key in KEYS))
for kind in wanted.kinds or OURS:
    commands = {"host": [HOST, "bench", "model", "--shape", "qwen3-0.6b", "-M", OURS[kind], "--json"]}
    for module, script, kinds in OTHERS:
        installed = importlib.util.find_spec(module) is not None
        if kind in kinds and installed and wanted.only in [None, module]:
            commands[module] = [sys.executable, os.path.join(HERE, script), kind, WEIGHTS]
    rounds = {name: [] for name in commands}
    for number in range(wanted.rounds):
        # Back and forth, so that a machine that becomes slower is so for all of them.
        names = list(commands) if number % 2 == 0 else list(commands)[::-1]
        for name in names:
            rounds[name].append(figures(commands[name]))
    found = {name: middle(of_it) for name, of_it in rounds.items()}
    for name, all_of in found.items():
        show(f"{name} {kind}", all_of)
        if name == "host":
            continue
        ratios = []
        for key in KEYS:
            clock = found["host"][key + "_per_second"] / all_of[key + "_per_second"]
            processor = all_of[key + "_processor_ms"] / found["host"][key + "_processor_ms"]
            ratios.append(f"{clock:9.2f} x {processor:9.2f} x")
        print(f"{'  ratio':20}", *ratios, flush=True)
