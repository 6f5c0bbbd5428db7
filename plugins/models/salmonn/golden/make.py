#!/usr/bin/env python3
"""Makes `tiny/`, a checkpoint with recorded answers, or others like it.

    pip install torch==2.15.0 transformers==5.23.0 peft==0.21.2 sentencepiece==0.2.3 safetensors
    python make.py [--out DIR] [--seed N] [--long]

The folder is laid out as the four downloads are: Whisper's (safetensors), BEATs' `.pt`, Vicuna's (pickled shards and a
`tokenizer.model`, no `tokenizer.json`) and SALMONN's `.pth`. All weights are random, so what the model says means
nothing. Whisper, Vicuna and its LoRA are transformers' and peft's; the rest is `reference.py`. The same versions give
the same bytes. `--long` adds a clip beyond Whisper's window, which makes the recording large.
"""
from __future__ import annotations

import argparse
import io
import json
import math
import shutil
import wave
from pathlib import Path

import numpy as np
import sentencepiece
import torch
import transformers
from peft import LoraConfig, get_peft_model
from reference import Beats, BeatsConfig, Connector
from safetensors.torch import save_file
from transformers import GenerationConfig

HERE, RATE, STEPS = Path(__file__).resolve().parent, 16_000, 16
TEMPLATE, HEARD = "USER: {}\nASSISTANT:", "<Speech><SpeechHere></Speech> "
WIDTH, HIDDEN, QFORMER = 16, 32, 24
TEXTS = [
    "USER: <Speech><SpeechHere></Speech> Describe the audio.\nASSISTANT: A dog barks twice, then a door is closed.",
    "Recognize the speech and give me the transcription. What is the emotion of the speaker?",
    "The quick brown fox listens to the radio while the rain falls on the roof. (A) 1234567890 %",
]


def write(path: Path, data) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@torch.no_grad()
def fill(module: torch.nn.Module, seed: int, dtype: torch.dtype = torch.float32, gain: float = 1.5) -> None:
    """Random weights on which mistakes show: norms are not one, biases are not zero, tables are no sinusoids."""
    random = torch.Generator().manual_seed(seed)
    for name, value in sorted(module.named_parameters()):
        noise = torch.randn(value.shape, generator=random)
        owner = name.rsplit(".", 1)[0].lower()
        if value.ndim == 1:
            drawn = ("norm" in owner or "ln_" in owner) * (not name.endswith("bias")) + 0.12 * noise
        elif "embed" in owner or "bias" in owner:
            drawn = noise * (0.1 if "token" in owner else 0.5)
        else:
            drawn = noise * (2 * gain if "lm_head" in owner else gain) / math.sqrt(value[0].numel())
        value.copy_(drawn.to(dtype))


def tokenizer_model() -> bytes:
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=made, model_type="bpe", vocab_size=340, byte_fallback=True,
        character_coverage=0.98, num_threads=1, unk_id=0, bos_id=1, eos_id=2, pad_id=-1, split_digits=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, allow_whitespace_only_pieces=True,
        minloglevel=2)
    return made.getvalue()


def make_whisper(folder: Path, seed: int):
    write(folder / "config.json", {
        "activation_function": "gelu", "architectures": ["WhisperForConditionalGeneration"], "d_model": WIDTH,
        "decoder_attention_heads": 2, "decoder_ffn_dim": 8, "decoder_layers": 1, "encoder_attention_heads": 2,
        "encoder_ffn_dim": 32, "encoder_layers": 2, "max_source_positions": 1500, "max_target_positions": 8,
        "model_type": "whisper", "num_hidden_layers": 2, "num_mel_bins": 80, "pad_token_id": 1, "vocab_size": 8})
    config = transformers.WhisperConfig.from_pretrained(folder)
    model = transformers.WhisperForConditionalGeneration._from_config(config, attn_implementation="eager").eval()
    fill(model, seed)
    state = {name: value.contiguous() for name, value in model.state_dict().items() if name != "proj_out.weight"}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return model.model.encoder


def make_vicuna(folder: Path, seed: int, model_proto: bytes, pieces: int):
    write(folder / "config.json", {
        "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
        "hidden_size": HIDDEN, "intermediate_size": 64, "max_position_embeddings": 8192, "model_type": "llama",
        "num_attention_heads": 4, "num_hidden_layers": 2, "pad_token_id": 0, "rms_norm_eps": 1e-06,
        "tie_word_embeddings": False, "torch_dtype": "float16", "vocab_size": pieces})
    write(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "do_sample": True,
                                              "temperature": 0.9, "top_p": 0.6})  # counts for nothing here
    write(folder / "tokenizer_config.json", {"add_bos_token": True, "bos_token": "<s>", "eos_token": "</s>",
                                             "tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>"})
    (folder / "tokenizer.model").write_bytes(model_proto)
    config = transformers.LlamaConfig.from_pretrained(folder)
    model = transformers.LlamaForCausalLM._from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    fill(model, seed, torch.float16)
    model.generation_config = GenerationConfig()
    state = {name: value.half().clone() for name, value in model.state_dict().items()}
    places = {}
    for number in range(2):
        file = f"pytorch_model-{number + 1:05}-of-00002.bin"
        part = {name: state[name] for name in list(state)[number::2]}
        torch.save(part, folder / file)
        places |= dict.fromkeys(part, file)
    write(folder / "pytorch_model.bin.index.json", {"metadata": {}, "weight_map": places})
    return model


def synth(seconds: float, seed: int) -> np.ndarray:
    """Two gliding tones with bursts of noise, as 16-bit samples."""
    t = np.arange(round(seconds * RATE)) / RATE
    base = 110.0 + 13.0 * (seed % 17)
    tones = 0.45 * np.sin(2 * np.pi * (base * t + 40 * t * t)) + 0.25 * np.sin(2 * np.pi * 7.3 * base * t)
    noise = np.random.default_rng(seed).uniform(-0.12, 0.12, len(t)) * (np.sin(2 * np.pi * 1.7 * t) > 0.6)
    return np.round(30_000 * (tones * (0.55 + 0.45 * np.sin(5.7 * t)) + noise)).astype("<i2")


def write_wav(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(samples.tobytes())


@torch.no_grad()
def record(folder: Path, seed: int, whisper, beats, connector, llama, words, long: bool) -> None:
    extract, embed = transformers.WhisperFeatureExtractor(feature_size=80), llama.get_base_model().get_input_embeddings()
    tensors, cases = {}, []
    asks = [("shortest", 0.05, "Describe the audio."), ("speech", 1.3, "Recognize the speech (A) or 12:")]
    if long:
        asks.append(("whole", 31.0, "What is the emotion of the speaker?"))
    for number, (name, seconds, ask) in enumerate(asks):
        samples = synth(seconds, seed + number)
        write_wav(folder / f"{name}.wav", samples)
        clip = samples.astype(np.float32) / np.float32(32_768)
        clip = np.pad(clip, (0, max(0, RATE - len(clip))))[: 30 * RATE]
        prompt = TEMPLATE.format(HEARD + ask)
        before, after = (words.encode(half) for half in prompt.split("<SpeechHere>"))
        spectrogram = extract(clip, sampling_rate=RATE, return_tensors="pt")["input_features"]
        sound = torch.from_numpy(clip.astype(np.float64))[None]
        heard, sensed = whisper(spectrogram).last_hidden_state, beats(sound)
        audio = connector(heard, sensed)
        row = torch.cat([embed(torch.tensor([[1] + before])), audio, embed(torch.tensor([after]))], dim=1)
        mask = torch.ones(row.shape[:2], dtype=torch.long)
        told = dict(inputs_embeds=row, attention_mask=mask)
        settings = dict(do_sample=False, max_new_tokens=STEPS, pad_token_id=0)
        greedy = llama.generate(**told, generation_config=GenerationConfig(eos_token_id=None, **settings))
        whole = llama(inputs_embeds=torch.cat([row, embed(greedy)], dim=1)).logits
        chosen = whole[:, row.shape[1] - 1:-1]
        assert torch.equal(chosen.argmax(-1), greedy)
        beams = llama.generate(**told, generation_config=GenerationConfig(num_beams=4, eos_token_id=2, **settings))
        best = chosen.topk(2, dim=-1).values
        cases.append({"name": name, "audio": [f"{name}.wav"], "ask": ask, "prompt": prompt, "before_ids": before,
                      "after_ids": after, "bos": 1, "eos": [2],
                      "smallest_margin": float((best[..., 0] - best[..., 1]).min())})
        found = {"beats": sensed, "audio_embeddings": audio,
                 "logits": whole[:, : row.shape[1]], "greedy": greedy, "greedy_logits": chosen, "beam4": beams}
        if number == 0 or long:
            found |= {"fbank": beats.fbank(sound)}
        if long:
            found |= {"spectrogram": spectrogram, "whisper": heard}
        tensors |= {f"{name}.{key}": value.float().contiguous() if value.is_floating_point() else value
                    for key, value in found.items()}
    save_file({name: value.clone() for name, value in tensors.items()}, folder / "golden.safetensors")
    write(folder / "cases.json", {"cases": cases})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE / "tiny")
    parser.add_argument("--seed", type=int, default=31)
    parser.add_argument("--long", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    shutil.rmtree(args.out, ignore_errors=True)
    (args.out / "golden").mkdir(parents=True)
    seed, out = args.seed, args.out

    proto = tokenizer_model()
    words = sentencepiece.SentencePieceProcessor(model_proto=proto)
    whisper = make_whisper(out / "whisper", seed)
    vicuna = make_vicuna(out / "vicuna", seed + 1, proto, words.get_piece_size())

    config = BeatsConfig(embed_dim=8, encoder_layers=2, encoder_embed_dim=WIDTH, encoder_ffn_embed_dim=32,
                         encoder_attention_heads=2, conv_pos=16, conv_pos_groups=4, num_buckets=32, max_distance=80,
                         predictor_class=3)
    beats = Beats(config).eval()
    fill(beats, seed + 2)
    with torch.no_grad():
        beats.encoder.pos_conv[0].weight_g.abs_().add_(0.2)
        for layer in beats.encoder.layers:
            layer.self_attn.grep_a.add_(1.0)
    state = beats.published_state()
    torch.save({"cfg": config.published(), "model": state}, out / "beats.pt")

    connector = Connector(WIDTH, WIDTH, QFORMER, 2, 48, HIDDEN).eval()
    fill(connector, seed + 3)
    llama = get_peft_model(vicuna, LoraConfig(r=8, lora_alpha=32, target_modules=["q_proj", "v_proj"])).eval()
    llama.generation_config = GenerationConfig()
    lora = torch.nn.ParameterDict({n.replace(".", "/"): p for n, p in llama.named_parameters() if "lora_" in n})
    fill(lora, seed + 4, gain=0.6)
    trained = dict(connector.state_dict())
    trained |= {"llama_model." + name.replace("/", "."): value.detach() for name, value in lora.items()}
    # What the published file carries besides, and a loader passes over.
    ballast = {"speech_Qformer.bert.embeddings.position_ids": torch.arange(512)[None]}
    torch.save({"model": trained | ballast, "epoch": 0, "scaler": None, "optimizer": {}, "config": {"lora": True}},
               out / "salmonn_v1.pth")
    write(out / "salmonn_config.json", {
        "whisper_path": "whisper", "beats_path": "beats.pt", "llama_path": "vicuna", "ckpt": "salmonn_v1.pth",
        "lora_rank": 8, "lora_alpha": 32, "qformer": {
            "hidden_size": QFORMER, "num_attention_heads": 2, "intermediate_size": 48, "num_hidden_layers": 2}})
    record(out / "golden", seed, whisper, beats, connector, llama, words, args.long)
    for path in out.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


if __name__ == "__main__":
    main()
