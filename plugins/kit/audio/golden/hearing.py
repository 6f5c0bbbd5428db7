"""What the golden folders of models that hear have in common: tokenizer, random weights, clips and their recording.

    pip install torch==2.15.0 transformers==5.23.0 safetensors tokenizers

All weights are random, so what the models say means nothing; they have the architecture, the files and the tensor
names of the published ones, with an encoder that hears one second at a time. The same versions give the same bytes.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import wave
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

RATE, STEPS = 16_000, 8

# What the byte-pair merges are learnt from; any text can be tokenized, since every byte is a token.
TEXTS = ["You are a helpful assistant. Listen to the recording. What is the emotion of the speaker?",
         "Audio 1: Which animal makes this sound? (A) Dog (B) Cat (C) Bird (D) Frog. The answer is A."]

# The pattern by which the published tokenizers cut text before merging.
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
           r"|\s*[\r\n]+|\s+(?!\S)|\s+")
MARKS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


@dataclass
class Family:
    """`config` takes the rows of the table and the ids of the marks; `seconds` is what the encoder hears at a time."""

    config: callable
    marks: list[str]
    template: str
    template_file: str
    model: str
    processor: object  # a class of transformers by name, or one of the caller's
    clip: str  # the mark that stands for a clip
    files: dict = field(default_factory=dict)
    penalty: float = 1.1
    longest: int | None = None  # seconds of a clip that are heard, where that is more than the encoder hears at a time


def write(path: Path, data) -> None:
    text = data if isinstance(data, str) else json.dumps(data, indent=1, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


def make_tokenizer(folder: Path, marks: list[str], rows: int) -> dict[str, int]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=rows - len(marks) - 3, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens([AddedToken(mark, normalized=False) for mark in marks])
    tokenizer.save(str(folder / "tokenizer.json"))
    return {mark: tokenizer.token_to_id(mark) for mark in marks}


def make_checkpoint(folder: Path, family: Family, seed: int, seconds: int, rows: int = 288,
                    dtype: torch.dtype = torch.bfloat16) -> torch.nn.Module:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ids = make_tokenizer(folder, MARKS + family.marks, rows)
    write(folder / "config.json", family.config(rows, ids, seconds))
    write(folder / "generation_config.json", {
        "bos_token_id": ids["<|endoftext|>"], "do_sample": True, "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
        "pad_token_id": ids["<|endoftext|>"], "repetition_penalty": family.penalty, "temperature": 0.7, "top_k": 20})
    write(folder / "tokenizer_config.json", {
        "bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None})
    template = {"chat_template": family.template} if family.template_file.endswith(".json") else family.template
    write(folder / family.template_file, template)
    longest = family.longest or seconds
    frontend = {"chunk_length": longest, "feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 128,
                "hop_length": 160, "n_fft": 400, "n_samples": longest * RATE, "nb_max_frames": longest * 100,
                "padding_side": "right", "padding_value": 0.0, "return_attention_mask": True, "sampling_rate": RATE}
    if isinstance(family.processor, str):
        frontend["processor_class"] = family.processor
    write(folder / "preprocessor_config.json", frontend)
    for name, data in family.files.items():
        write(folder / name, data | {"feature_extractor": frontend})

    model = getattr(transformers, family.model)._from_config(
        AutoConfig.from_pretrained(folder), attn_implementation="eager", dtype=torch.float32)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in sorted(model.named_parameters()):
            noise = torch.randn(value.shape, generator=random)
            if "norm" in name and name.endswith("weight"):
                value.copy_(1 + 0.2 * noise)
            elif value.ndim == 1:
                value.copy_(0.1 * noise)
            else:
                value.copy_(noise * (0.4 if "embed" in name else 1.2 / value[0].numel() ** 0.5))
            value.copy_(value.to(dtype))  # what is recorded is of the stored values
    # Under the names of the published files, to which the library maps its own.
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch)
        state = load_file(Path(scratch) / "model.safetensors")
    save_file({name: value.to(dtype).contiguous() for name, value in sorted(state.items())},
              folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    model.generation_config = GenerationConfig()
    return model.eval()


def make_clip(path: Path, seconds: float, seed: int) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    tone = 0.5 * np.sin(2 * np.pi * ((150 + 40 * seed) * t + 200 * t * t))
    noise = np.random.default_rng(seed).uniform(-0.2, 0.2, len(t)) * (np.sin(2 * np.pi * 5 * t) > 0)
    samples = np.round(30_000 * (tone + noise)).astype("<i2")
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1), out.setsampwidth(2), out.setframerate(RATE)
        out.writeframes(samples.tobytes())
    return samples.astype(np.float32) / np.float32(32_768)


@torch.no_grad()
def record(folder: Path, family: Family, model, clips: dict[str, float], cases: dict[str, tuple], heard,
           golden: Path | None = None) -> None:
    """Each case is its conversations, the clips that they hear, and whether to keep the features, which are large."""
    golden = golden or folder / "golden"
    golden.mkdir()
    sounds = {name: make_clip(golden / f"{name}.wav", seconds, n) for n, (name, seconds) in enumerate(clips.items())}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side, tokenizer.chat_template = "left", family.template
    processor = (getattr(transformers, family.processor).from_pretrained(folder) if isinstance(family.processor, str)
                 else family.processor(folder))
    tensors, facts = {}, []
    for name, (talks, hears, keep_features) in cases.items():
        prompts = [tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True) for talk in talks]
        inputs = processor(text=prompts, audio=[sounds[clip] for clip in hears] or None, return_tensors="pt",
                           text_kwargs={"padding": True, "padding_side": "left"}, audio_kwargs={"sampling_rate": RATE})
        inputs = {key: value for key, value in inputs.items()}
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        settings = dict(do_sample=False, max_new_tokens=STEPS, eos_token_id=None, pad_token_id=0)
        grown = model.generate(**inputs, generation_config=GenerationConfig(**settings))
        greedy = grown[:, ids.shape[1]:]
        again = model.generate(**inputs, generation_config=GenerationConfig(**settings, repetition_penalty=family.penalty))
        whole = torch.cat([mask, torch.ones_like(greedy)], dim=1)
        positions = (whole.cumsum(-1) - 1).clamp(min=0)
        sound = {key: value for key, value in inputs.items() if key not in ("input_ids", "attention_mask")}
        logits = model(input_ids=grown, attention_mask=whole, position_ids=positions, use_cache=False, **sound).logits
        chosen = logits[:, ids.shape[1] - 1:-1]
        assert torch.equal(chosen.argmax(-1), greedy), name
        best = chosen.topk(2, dim=-1).values
        kept = {"input_ids": ids, "attention_mask": mask, "logits": logits[:, :ids.shape[1]], "greedy": greedy,
                "greedy_logits": chosen, "greedy_penalised": again[:, ids.shape[1]:]}
        if hears:
            kept["audio_embeddings"] = heard(model, inputs)
        if keep_features:
            kept["input_features"] = inputs["input_features"]
        tensors |= {f"{name}.{key}": value.contiguous().clone() for key, value in kept.items()}
        facts.append({"name": name, "messages": talks, "prompts": prompts, "audio": [f"{clip}.wav" for clip in hears],
                      "smallest_margin": float((best[..., 0] - best[..., 1]).min()),
                      "repetition_penalty": family.penalty})
    save_file(tensors, golden / "golden.safetensors")
    (golden / "golden.safetensors").chmod(0o644)
    write(golden / "cases.json", {"cases": facts})


def talk(*parts, before=()) -> list[dict]:
    """A conversation that ends with these parts: words, or None for a clip."""
    pieces = [{"type": "audio", "audio": "clip"} if part is None else {"type": "text", "text": part} for part in parts]
    return [*before, {"role": "user", "content": pieces}]
