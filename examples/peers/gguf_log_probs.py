"""A real GGUF file here and in llama.cpp: are the greedy tokens the same, and how far are the log-probabilities apart?

    cargo build --release -p nn --example log_probs
    pip install xllamacpp gguf numpy torch transformers
    python examples/peers/gguf_log_probs.py SmolLM2-135M-Instruct.Q4_1.gguf [target/release/examples/log_probs]

llama.cpp answers 20 prompts greedily, with 24 tokens or fewer, and says the 50 likeliest tokens at each place. These are
held beside what comes of it here, on the blocks of the file and on the blocks unpacked to fp32, and beside transformers on
the same fp32 values, which is the truth that all others come near.

llama.cpp and our blocks round what they multiply with to eight bits, each in its own way. How much that alone changes is seen
in transformers with the same rounding, once with the scale of each block in fp32 and once in fp16.
"""

import itertools
import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import numpy as np
import torch
import xllamacpp
from transformers import AutoModelForCausalLM

PROMPTS = [
    "The capital of France is",
    "Water boils at a temperature of",
    "Once upon a time, in a small village by the sea,",
    "def fibonacci(n):\n    ",
    "The three primary colors are",
    "Q: What is 17 + 25?\nA:",
    "Photosynthesis is the process by which",
    "To make a cup of tea, first",
    "SELECT name, age FROM users WHERE",
    "The first law of thermodynamics states that",
    "Dear Sir or Madam,\n\nI am writing to",
    "In 1969, the first human",
    "A list of planets: Mercury, Venus,",
    "The opposite of hot is",
    "import numpy as np\n\nx = np.",
    "Wikipedia: The domestic cat (Felis catus) is",
    "My favourite season is autumn because",
    "1, 1, 2, 3, 5, 8,",
    "<|im_start|>user\nName a fruit.<|im_end|>\n<|im_start|>assistant\n",
    "Die Hauptstadt von Deutschland ist",
]
STEPS, LIKELIEST = 24, 50


def llama_cpp(path):
    """For each prompt its tokens and, for each place behind it, the token that follows and the likeliest ones."""
    settings = xllamacpp.CommonParams()
    settings.model.path = str(path)
    settings.n_ctx, settings.n_parallel, settings.warmup = 512, 1, False
    server = xllamacpp.Server(settings)

    def ask(method, body):
        request = urllib.request.Request(server.listening_address + method, json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    said = []
    for prompt in PROMPTS:
        ids = ask("/tokenize", {"content": prompt, "add_special": False, "parse_special": True})["tokens"]
        answer = ask("/completion", {"prompt": ids, "n_predict": STEPS, "temperature": 0, "n_probs": LIKELIEST,
                                     "cache_prompt": False})
        places = answer["completion_probabilities"]
        said.append((ids, [place["id"] for place in places],
                     [{one["id"]: one["logprob"] for one in place["top_logprobs"]} for place in places]))
    return said


def here(program, path, how, said, vocabulary):
    with tempfile.NamedTemporaryFile(suffix=".f32") as out:
        lines = [json.dumps({"ids": ids + tokens[:-1], "from": len(ids) - 1}) for ids, tokens, _ in said]
        subprocess.run([program, path, how, out.name], input="\n".join(lines), text=True, check=True)
        return np.fromfile(out.name, dtype=np.float32).reshape(-1, vocabulary)


@torch.no_grad()
def transformers(path, said):
    """As it is, and with what matrices are multiplied with rounded to eight bits, its scales in fp32 or in fp16."""
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    scales = None

    def rounded(_, inputs):
        if scales is None:
            return None
        blocks = inputs[0].reshape(-1, 32)
        scale = blocks.abs().amax(1, keepdim=True) / 127
        whole = torch.where(scale > 0, torch.round(blocks / scale), 0)
        return (whole * scale.to(scales).float()).reshape(inputs[0].shape)

    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(rounded)
    ways = {}
    for name, scales in {"fp32": None, "rounded, scales fp32": torch.float32, "rounded, scales fp16": torch.float16}.items():
        rows = []
        for ids, tokens, _ in said:
            logits = model(torch.tensor([ids + tokens[:-1]])).logits[0, len(ids) - 1:]
            rows.append(logits.double().log_softmax(-1).float().numpy())
        ways[f"transformers, {name}"] = np.concatenate(rows)
    return ways


def main():
    path = Path(sys.argv[1]).resolve()
    program = sys.argv[2] if len(sys.argv) > 2 else "target/release/examples/log_probs"
    said = llama_cpp(path)
    ways = transformers(path, said)
    exact = ways["transformers, fp32"]
    ways |= {f"ours, {how}": here(program, path, how, said, exact.shape[1]) for how in ("blocks", "unpacked")}
    text_of = np.array([number for number, (_, tokens, _) in enumerate(said) for _ in tokens])
    chosen = np.array([token for _, tokens, _ in said for token in tokens])
    places = [place for _, _, all_places in said for place in all_places]
    likeliest = np.array([list(place) for place in places])
    rows = np.arange(len(places))[:, None]
    best_two = np.sort(exact, axis=1)[:, -2:]
    margin = best_two[:, 1] - best_two[:, 0]

    print(f"{len(places)} places, {LIKELIEST} tokens each\n")
    print("| | texts with llama.cpp's tokens | places with another token | of the two best there, at most apart |\n|---|--:|--:|--:|")
    for name, values in ways.items():
        others = values.argmax(1) != chosen
        print(f"| {name} | {len(PROMPTS) - len(set(text_of[others]))} of {len(PROMPTS)} | {others.sum()} of {len(places)} "
              f"| {margin[others].max(initial=0):.3f} |")
    values = {name: values[rows, likeliest] for name, values in ways.items()}
    values["llama.cpp"] = np.array([list(place.values()) for place in places])
    print("\n| log-probabilities | root mean square | largest | rms of the chosen token | largest |\n|---|--:|--:|--:|--:|")
    first = likeliest == chosen[:, None]
    for one, other in itertools.combinations(values, 2):
        apart = np.abs(values[one] - values[other])
        rms = [np.sqrt(np.square(some, dtype=np.float64).mean()) for some in (apart, apart[first])]
        print(f"| {one} beside {other} | {rms[0]:.5f} | {apart.max():.4f} | {rms[1]:.5f} | {apart[first].max():.4f} |")


if __name__ == "__main__":
    main()
