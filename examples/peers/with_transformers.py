"""python with_transformers.py bf16|fp32 [--device cuda] [--shape qwen3-0.6b]"""
import argparse

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

import work

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("kind", choices=["bf16", "fp32"])
parser.add_argument("folder", nargs="?", help="not used: weights are drawn anew")
parser.add_argument("--device", default="cpu")
parser.add_argument("--shape", default="qwen3-0.6b", choices=work.SHAPES)
wanted = parser.parse_args()
hidden, inner, layers, heads, key_heads, head_size, vocabulary, tied = work.SHAPES[wanted.shape]
torch.manual_seed(0)
torch.set_default_dtype({"bf16": torch.bfloat16, "fp32": torch.float32}[wanted.kind])
torch.set_default_device(wanted.device)
model = Qwen3ForCausalLM(
    Qwen3Config(
        vocab_size=vocabulary, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=key_heads, head_dim=head_size, intermediate_size=inner, max_position_embeddings=40960,
        tie_word_embeddings=tied,
    )
).eval()


def ids(rows, tokens):
    return torch.randint(0, vocabulary - 2, (rows, tokens))


def read(rows, tokens):
    model(ids(rows, tokens), logits_to_keep=1)
    if wanted.device != "cpu":
        torch.cuda.synchronize()


def write(rows, tokens):
    prompts = ids(rows, 32)
    mask = torch.ones_like(prompts)
    model.generate(prompts, attention_mask=mask, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False).tolist()


with torch.inference_mode():
    batch, short = work.BATCH, work.ANSWER // 2
    # The options are single letters: their likelihoods all stand in the logits behind the prompt.
    rates = {
        "prefill_tokens": work.rate(work.PROMPT, lambda: read(1, work.PROMPT)),
        "decode_1_tokens": work.rate(work.ANSWER - 1, lambda: write(1, work.ANSWER), lambda: write(1, 1)),
        "decode_batch_tokens": work.rate(batch * (short - 1), lambda: write(batch, short), lambda: write(batch, 1)),
        "choice_prompts": work.rate(work.CHOICES, lambda: read(work.CHOICES, work.CHOICE_PROMPT)),
    }
work.told("transformers", wanted.kind, rates)
