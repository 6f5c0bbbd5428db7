#!/usr/bin/env python3
"""Records short training runs on `tiny/`, or on another folder that `make.py` made, into its `training`.

    pip install torch==2.15.0 transformers==5.23.0 peft==0.21.2 safetensors sentencepiece
    python training.py [--folder DIR] [--seed N]

The model's own LoRA stays as it is: PEFT adds what is learnt beside it. Clips pass Whisper, BEATs and the Q-Former, which
stay as they are too. How a run is computed and compared with transformers' Trainer is `plugins/kit/train/golden/runs.py`.
"""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

import make as tiny

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "kit/train/golden"))
from runs import LINEAR, ROWS, Runs, begin, emptied, padded  # noqa: E402

CLIPS = (0.4, 1.1, 0.7)
CASES = {
    "lora": {"learning_rate": 5e-3, "lora": {"r": 2, "lora_alpha": 6, "target_modules": LINEAR}},
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


class Beside(Runs):
    """Over a folder's four parts, with the model's own LoRA beside what is learnt."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.described = json.loads((folder / "salmonn_config.json").read_text())
        trained = torch.load(folder / self.described["ckpt"])["model"]
        self.own = {name.removeprefix("llama_model."): value for name, value in trained.items() if ".lora_" in name}
        whisper = transformers.WhisperForConditionalGeneration.from_pretrained(folder / "whisper", dtype=torch.float32)
        beats = torch.load(folder / self.described["beats_path"])
        config = tiny.BeatsConfig(**{name: beats["cfg"][name] for name in tiny.BeatsConfig.__dataclass_fields__})
        self.whisper, self.beats = whisper.model.encoder.eval(), tiny.Beats(config).eval()
        self.beats.load_state_dict(beats["model"], strict=False)
        qformer, vicuna = self.described["qformer"], json.loads((folder / "vicuna/config.json").read_text())
        self.connector = tiny.Connector(
            whisper.config.d_model, config.encoder_embed_dim, qformer["hidden_size"], qformer["num_attention_heads"],
            qformer["intermediate_size"], vicuna["hidden_size"], layers=qformer["num_hidden_layers"]).eval()
        missing, _ = self.connector.load_state_dict(trained, strict=False)
        assert not missing, missing
        out, self.vectors = emptied(folder / "training"), {}
        for number, seconds in enumerate(CLIPS):
            samples = tiny.synth(seconds, seed + number)
            tiny.write_wav(out / f"clip-{number}.wav", samples)
            self.vectors[f"clip-{number}.wav"] = self.hear(samples)
        words = (torch.randperm(vicuna["vocab_size"] - 10, generator=torch.Generator().manual_seed(seed))[:16] + 4).tolist()
        rows, held_out = ([self.row(seed, number, words) for number in numbers] for numbers in (range(ROWS), (503, 500)))
        super().__init__(folder, seed, rows, held_out)

    @torch.no_grad()
    def hear(self, samples: np.ndarray) -> torch.Tensor:
        clip = samples.astype(np.float32) / np.float32(32_768)
        clip = np.pad(clip, (0, max(0, tiny.RATE - len(clip))))
        extract = transformers.WhisperFeatureExtractor(feature_size=self.whisper.config.num_mel_bins)
        mel = extract(clip, sampling_rate=tiny.RATE, return_tensors="pt")["input_features"]
        sound = torch.from_numpy(clip.astype(np.float64))[None]
        return self.connector(self.whisper(mel).last_hidden_state, self.beats(sound))[0]

    def row(self, seed: int, number: int, words: list[int]) -> dict:
        """A question about a clip, or about none, and a learnt answer."""
        random = torch.Generator().manual_seed(seed * 1000 + number)

        def some(least: int, most: int) -> list[int]:
            count = int(torch.randint(least, most, (), generator=random))
            return [words[place] for place in torch.randint(len(words), (count,), generator=random).tolist()]

        clip = None if number % 5 == 3 else f"clip-{number % len(CLIPS)}.wav"
        asked = [1, *some(2, 5), *([0] * len(self.vectors[clip]) if clip else []), *some(2, 6)]
        answer = [] if number == 6 else [*some(2, 7), 2]
        return {"input_ids": asked + answer, "labels": [-100] * len(asked) + answer, "attention_mask": [1] * len(asked + answer),
                **({"audio": [clip]} if clip else {})}

    def start_of(self, name: str, case: dict) -> torch.nn.Module:
        model = Listening.from_pretrained(self.folder / "vicuna", attn_implementation="eager", dtype=torch.float32)
        if case.get("quantised"):
            self.quantise(model)
        rank, alpha = self.described["lora_rank"], self.described["lora_alpha"]
        model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=["q_proj", "v_proj"]))
        _, surplus = model.load_state_dict(self.own, strict=False)
        assert not surplus, surplus
        if case["lora"] is not None:
            model.add_adapter("learnt", LoraConfig(task_type="CAUSAL_LM", **case["lora"]))
            model.base_model.set_adapter(["default", "learnt"])
            self.draw(model, name, case, ".learnt.")
        for parameter, value in model.named_parameters():
            value.requires_grad_(".learnt." in parameter if case["lora"] else ".lora_" not in parameter)
        return model

    def batch_of(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        batch = padded(rows)
        heard = torch.zeros(*batch["input_ids"].shape, next(iter(self.vectors.values())).shape[1])
        for number, row in enumerate(rows):
            for clip in row.get("audio", []):
                heard[number, [place for place, token in enumerate(row["input_ids"]) if token == 0]] = self.vectors[clip]
        return batch | {"heard": heard}

    def stored_name(self, name: str) -> str:
        if ".lora_" in name:
            return name.replace(".learnt.", ".")
        return name.removeprefix("base_model.model.").replace(".base_layer.", ".")

    def save_lora(self, model: torch.nn.Module, folder: Path) -> None:
        model.save_pretrained(folder, selected_adapters=["learnt"])
        for path in (folder / "learnt").iterdir():
            path.rename(folder / path.name)
        (folder / "learnt").rmdir()
        self.write_factors(model, folder, ".learnt.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=HERE / "tiny")
    parser.add_argument("--seed", type=int, default=11)
    arguments = parser.parse_args()
    begin()
    runs = Beside(arguments.folder, arguments.seed)
    runs.record("salmonn", CASES, arithmetic="float64 over the stored values; vectors of clips in float32")


if __name__ == "__main__":
    main()
