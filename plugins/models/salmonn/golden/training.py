#!/usr/bin/env python3
"""Records short training runs on `tiny/`, or on another folder that `make.py` made, into its `training`.

    pip install torch==2.15.0 transformers==5.23.0 peft==0.21.2 safetensors sentencepiece
    python training.py [--folder DIR] [--seed N]

The model's own LoRA stays as it is: PEFT adds what is learnt beside it. Clips pass Whisper, BEATs and the Q-Former, which
stay as they are too. How a run is computed and compared with transformers' Trainer is `plugins/kit/train/golden/make.py`.
"""
from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

HERE = Path(__file__).resolve().parent


def module(path: Path):
    spec = importlib.util.spec_from_file_location(f"{path.parts[-3]}_{path.stem}", path)
    made = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(made)
    return made


tiny, runs = module(HERE / "make.py"), module(HERE.parents[2] / "kit/train/golden/make.py")
CLIPS, TARGETS = (0.4, 1.1, 0.7), ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES = {
    "lora": {"learning_rate": 5e-3, "lora": {"r": 2, "lora_alpha": 6, "target_modules": TARGETS}},
    "qlora": {"learning_rate": 5e-3, "lora": {"r": 3, "lora_alpha": 5, "use_rslora": True, "target_modules": ["v_proj", "o_proj"]},
              "quantised": True},
    "full": {"learning_rate": 1e-3, "lora": None, "frozen": []},
}


class Listening(LlamaForCausalLM):
    """Takes vectors of sound in place of those of token 0."""

    def forward(self, input_ids=None, heard=None, **more):
        vectors = self.get_input_embeddings()(input_ids)
        vectors = torch.where((input_ids == 0)[..., None], heard.to(vectors), vectors)
        return super().forward(inputs_embeds=vectors, **more)


class Reference:
    """A folder's four parts."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.described = json.loads((folder / "salmonn_config.json").read_text())
        trained = torch.load(folder / self.described["ckpt"])["model"]
        self.own = {name: value for name, value in trained.items() if ".lora_" in name}
        whisper = transformers.WhisperForConditionalGeneration.from_pretrained(folder / "whisper", dtype=torch.float32)
        beats = torch.load(folder / self.described["beats_path"])
        config = tiny.BeatsConfig(**{name: beats["cfg"][name] for name in tiny.BeatsConfig().published() if name in
                                     tiny.BeatsConfig.__dataclass_fields__})
        self.whisper, self.beats = whisper.model.encoder.eval(), tiny.Beats(config).eval()
        self.beats.load_state_dict(beats["model"], strict=False)
        qformer = self.described["qformer"]
        hidden = json.loads((folder / "vicuna/config.json").read_text())["hidden_size"]
        self.connector = tiny.Connector(
            whisper.config.d_model, config.encoder_embed_dim, qformer["hidden_size"], qformer["num_attention_heads"],
            qformer["intermediate_size"], hidden, layers=qformer["num_hidden_layers"]).eval()
        missing, _ = self.connector.load_state_dict(trained, strict=False)
        assert not missing, missing

    @torch.no_grad()
    def hear(self, samples: np.ndarray) -> torch.Tensor:
        clip = samples.astype(np.float32) / np.float32(32_768)
        clip = np.pad(clip, (0, max(0, tiny.RATE - len(clip))))
        extract = transformers.WhisperFeatureExtractor(feature_size=self.whisper.config.num_mel_bins)
        mel = extract(clip, sampling_rate=tiny.RATE, return_tensors="pt")["input_features"]
        sound = torch.from_numpy(clip.astype(np.float64))[None]
        return self.connector(self.whisper(mel).last_hidden_state, self.beats(sound))[0]

    def start(self, _folder: Path, name: str, case: dict, seed: int) -> torch.nn.Module:
        """The model before the first step, in float32."""
        model = Listening.from_pretrained(self.folder / "vicuna", attn_implementation="eager", dtype=torch.float32)
        if case.get("quantised"):
            for part in model.model.modules():
                if isinstance(part, torch.nn.Linear):
                    part.weight.data.copy_(runs.four_bits.rounded(part.weight.data))
        rank, alpha = self.described["lora_rank"], self.described["lora_alpha"]
        model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=["q_proj", "v_proj"]))
        own = {name.removeprefix("llama_model."): value for name, value in self.own.items()}
        _, surplus = model.load_state_dict(own, strict=False)
        assert not surplus, surplus
        if case["lora"] is None:
            for parameter, value in model.named_parameters():
                value.requires_grad_("lora_" not in parameter)
            return model
        model.add_adapter("learnt", LoraConfig(task_type="CAUSAL_LM", **case["lora"]))
        model.base_model.set_adapter(["default", "learnt"])
        random = torch.Generator().manual_seed(seed + len(name))
        for parameter, value in sorted(model.named_parameters()):
            value.requires_grad_(".learnt." in parameter)
            if ".learnt." in parameter:
                start = (torch.rand(value.shape, generator=random) * 2 - 1) / value.shape[1] ** 0.5
                value.data.copy_(start if "lora_A" in parameter else start * 0.2 * bool(case.get("quantised")))
        return model


def stored_name(name: str) -> str:
    if ".lora_" in name:
        return name.replace(".learnt.", ".")
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")


def save_lora(model: torch.nn.Module, folder: Path, base: str) -> None:
    model.save_pretrained(folder, selected_adapters=["learnt"])
    for path in (folder / "learnt").iterdir():
        path.rename(folder / path.name)
    (folder / "learnt").rmdir()
    (folder / "README.md").unlink(missing_ok=True)
    learnt = {stored_name(n): p.detach().float().contiguous() for n, p in sorted(model.named_parameters()) if ".learnt." in n}
    runs.save_file(learnt, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "adapter_config.json").read_text()) | {"base_model_name_or_path": base}
    config["target_modules"].sort()
    runs.write(folder / "adapter_config.json", config)


def make_row(seed: int, number: int, words: list[int], places: int) -> dict:
    """A question about a clip, or about none, and a learnt answer."""
    random = torch.Generator().manual_seed(seed * 1000 + number)

    def some(least: int, most: int) -> list[int]:
        count = int(torch.randint(least, most, (), generator=random))
        return [words[place] for place in torch.randint(len(words), (count,), generator=random).tolist()]

    clip = None if number % 5 == 3 else f"clip-{number % len(CLIPS)}.wav"
    asked = [1, *some(2, 5), *([0] * places if clip else []), *some(2, 6)]
    answer = [] if number == 6 else [*some(2, 7), 2]
    return {"input_ids": asked + answer, "labels": [-100] * len(asked) + answer, "attention_mask": [1] * len(asked + answer),
            **({"audio": [clip]} if clip else {})}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=HERE / "tiny")
    parser.add_argument("--seed", type=int, default=11)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    folder, seed = arguments.folder, arguments.seed
    reference, out = Reference(folder), folder / "training"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    vectors = {}
    for number, seconds in enumerate(CLIPS):
        samples = tiny.synth(seconds, seed + number)
        tiny.write_wav(out / f"clip-{number}.wav", samples)
        vectors[f"clip-{number}.wav"] = reference.hear(samples)
    places, hidden = vectors["clip-0.wav"].shape
    pieces = json.loads((folder / "vicuna/config.json").read_text())["vocab_size"]
    words = (torch.randperm(pieces - 10, generator=torch.Generator().manual_seed(seed))[:16] + 4).tolist()
    rows = [make_row(seed, number, words, places) for number in range(runs.ROWS)]
    held_out = [make_row(seed, number, words, places) for number in (503, 500)]

    padded = runs.batch_of

    def batch_of(some: list[dict]) -> dict[str, torch.Tensor]:
        batch = padded([{key: row[key] for key in ("input_ids", "labels", "attention_mask")} for row in some])
        heard = torch.zeros(*batch["input_ids"].shape, hidden)
        for number, row in enumerate(some):
            for clip in row.get("audio", []):
                heard[number, [place for place, token in enumerate(row["input_ids"]) if token == 0]] = vectors[clip]
        return batch | {"heard": heard}

    def logits_of(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], heard=batch["heard"],
                     use_cache=False).logits

    runs.start_of, runs.stored_name, runs.save_lora = reference.start, stored_name, save_lora
    runs.batch_of, runs.logits_of = batch_of, logits_of
    for file, some in (("rows", rows), ("held_out", held_out)):
        runs.write(out / f"{file}.jsonl", "".join(json.dumps(row) + "\n" for row in some))
    done = [runs.run(folder, name, case, rows, held_out, seed) for name, case in CASES.items()]
    meta = {
        "family": "salmonn", "seed": seed, "order": "as in rows.jsonl", "rows": runs.ROWS, "batch_size": runs.BATCH,
        "accumulation": runs.ACCUMULATION, "steps": runs.STEPS, "schedule": "cosine", "warmup_steps": runs.WARMUP_STEPS,
        "weight_decay": runs.DECAY, "max_grad_norm": runs.CLIP, "betas": runs.BETAS, "eps": runs.EPS,
        "arithmetic": "float64 over the stored values; vectors of clips in float32", "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__, "peft": peft.__version__}
    (out / "cases.json").write_text(json.dumps({"meta": meta, "cases": done}) + "\n")
    for path in out.rglob("*.safetensors"):
        path.chmod(0o644)


if __name__ == "__main__":
    main()
