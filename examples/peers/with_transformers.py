"""python with_transformers.py bf16|fp32"""
import sys

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

import work

kind = sys.argv[1]
torch.manual_seed(0)
torch.set_default_dtype({"bf16": torch.bfloat16, "fp32": torch.float32}[kind])
model = Qwen3ForCausalLM(
    Qwen3Config(
        vocab_size=work.VOCABULARY, hidden_size=work.HIDDEN, num_hidden_layers=work.LAYERS,
        num_attention_heads=work.HEADS, num_key_value_heads=work.KEY_HEADS, head_dim=work.HEAD_SIZE,
        intermediate_size=work.INNER, max_position_embeddings=40960, tie_word_embeddings=True,
    )
).eval()


def ids(rows, tokens):
    return torch.randint(0, 150000, (rows, tokens))


def write(rows, tokens):
    prompts = ids(rows, 32)
    mask = torch.ones_like(prompts)
    model.generate(prompts, attention_mask=mask, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)


with torch.inference_mode():
    batch, short = work.BATCH, work.ANSWER // 2
    # The options are single letters: their likelihoods all stand in the logits behind the prompt.
    rates = {
        "prefill_tokens": work.rate(work.PROMPT, lambda: model(ids(1, work.PROMPT), logits_to_keep=1)),
        "decode_1_tokens": work.rate(work.ANSWER - 1, lambda: write(1, work.ANSWER), lambda: write(1, 1)),
        "decode_batch_tokens": work.rate(batch * (short - 1), lambda: write(batch, short), lambda: write(batch, 1)),
        "choice_prompts": work.rate(
            work.CHOICES, lambda: model(ids(work.CHOICES, work.CHOICE_PROMPT), logits_to_keep=1)
        ),
    }
work.told("transformers", kind, rates)
