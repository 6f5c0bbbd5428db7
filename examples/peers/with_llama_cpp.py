"""python with_llama_cpp.py bf16|q8_0|q4_k FOLDER   (the folder keeps the random weights, some 3 GB)"""
import ctypes
import os
import sys

import gguf
import llama_cpp as api
import numpy as np

import work

kind, folder = sys.argv[1:3]
os.makedirs(folder, exist_ok=True)
plain = os.path.join(folder, "bf16.gguf")
random = np.random.default_rng(0)


def write_weights():
    writer = gguf.GGUFWriter(plain + ".part", "qwen3")
    writer.add_block_count(work.LAYERS)
    writer.add_context_length(40960)
    writer.add_embedding_length(work.HIDDEN)
    writer.add_feed_forward_length(work.INNER)
    writer.add_head_count(work.HEADS)
    writer.add_head_count_kv(work.KEY_HEADS)
    writer.add_key_length(work.HEAD_SIZE)
    writer.add_value_length(work.HEAD_SIZE)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([f"t{number}" for number in range(work.VOCABULARY)])
    writer.add_token_types([1] * work.VOCABULARY)
    writer.add_token_merges(["t 1"])
    bf16 = gguf.GGMLQuantizationType.BF16

    def matrix(name, outputs, inputs):
        values = random.standard_normal((outputs, inputs), dtype=np.float32) * 0.02
        writer.add_tensor(name + ".weight", gguf.quants.quantize(values, bf16), raw_dtype=bf16)

    def ones(name, count):
        writer.add_tensor(name + ".weight", np.ones(count, dtype=np.float32))

    queries, keys = work.HEADS * work.HEAD_SIZE, work.KEY_HEADS * work.HEAD_SIZE
    matrix("token_embd", work.VOCABULARY, work.HIDDEN)
    ones("output_norm", work.HIDDEN)
    for layer in range(work.LAYERS):
        at = f"blk.{layer}."
        ones(at + "attn_norm", work.HIDDEN)
        ones(at + "ffn_norm", work.HIDDEN)
        ones(at + "attn_q_norm", work.HEAD_SIZE)
        ones(at + "attn_k_norm", work.HEAD_SIZE)
        matrix(at + "attn_q", queries, work.HIDDEN)
        matrix(at + "attn_k", keys, work.HIDDEN)
        matrix(at + "attn_v", keys, work.HIDDEN)
        matrix(at + "attn_output", work.HIDDEN, queries)
        matrix(at + "ffn_gate", work.INNER, work.HIDDEN)
        matrix(at + "ffn_up", work.INNER, work.HIDDEN)
        matrix(at + "ffn_down", work.HIDDEN, work.INNER)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.rename(plain + ".part", plain)


if not os.path.exists(plain):
    write_weights()
path = plain
if kind != "bf16":
    path = os.path.join(folder, f"{kind}.gguf")
    if not os.path.exists(path):
        how = api.llama_model_quantize_default_params()
        how.ftype = {"q8_0": api.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_k": api.LLAMA_FTYPE_MOSTLY_Q4_K_M}[kind]
        assert api.llama_model_quantize(plain.encode(), path.encode(), ctypes.byref(how)) == 0

api.llama_backend_init()
model = api.llama_model_load_from_file(path.encode(), api.llama_model_default_params())
threads = os.cpu_count()
settings = api.llama_context_default_params()
settings.n_ctx, settings.n_batch, settings.n_ubatch, settings.n_seq_max = 4096, 2048, 512, work.CHOICES
settings.n_threads = settings.n_threads_batch = threads
settings.kv_unified = True
context = api.llama_init_from_model(model, settings)


def step(rows, tokens, start):
    """So many random tokens of each row, the logits behind the last of them."""
    batch = api.llama_batch_init(rows * tokens, 0, 1)
    for place in range(rows * tokens):
        row, token = divmod(place, tokens)
        batch.token[place] = int(random.integers(0, 150000))
        batch.pos[place] = start + token
        batch.n_seq_id[place], batch.seq_id[place][0] = 1, row
        batch.logits[place] = int(token == tokens - 1)
    batch.n_tokens = rows * tokens
    assert api.llama_decode(context, batch) == 0
    api.llama_synchronize(context)
    api.llama_batch_free(batch)


def read(rows, tokens):
    api.llama_memory_clear(api.llama_get_memory(context), True)
    step(rows, tokens, 0)


def write(rows, tokens):
    read(rows, 32)
    for number in range(tokens - 1):
        step(rows, 1, 32 + number)


batch, short = work.BATCH, work.ANSWER // 2
work.told("llama.cpp", kind, {
    "prefill_tokens": work.rate(work.PROMPT, lambda: read(1, work.PROMPT)),
    "decode_1_tokens": work.rate(work.ANSWER - 1, lambda: write(1, work.ANSWER), lambda: write(1, 1)),
    "decode_batch_tokens": work.rate(batch * (short - 1), lambda: write(batch, short), lambda: write(batch, 1)),
    "choice_prompts": work.rate(work.CHOICES, lambda: read(work.CHOICES, work.CHOICE_PROMPT)),
})
