#!/usr/bin/env python3
"""Records short training runs of Audio Flamingo 3 and Qwen2.5-Omni, into the folder `training` of a checkpoint that their own
`golden/make.py` made.

    pip install torch==2.15.0 transformers==5.23.0 peft==0.21.2 safetensors tokenizers
    python listening.py                                       # on both that are committed
    python listening.py --only af3 --folder DIR --seed 70     # another: `AF3_TRAINING=DIR cargo test -p af3`

Clips of several lengths, one beyond what the encoder hears at a time, pass the audio tower in every step. How a run is
computed and compared with transformers' Trainer is `make.py` beside this file.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sys
from pathlib import Path

import peft
import torch
import transformers
from transformers import AutoTokenizer

HERE = Path(__file__).resolve().parent
MODELS = HERE.parents[2] / "models"


def module(path: Path, name: str):
    spec = importlib.util.spec_from_file_location(name, path)
    made = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(made)
    return made


runs = module(HERE / "make.py", "runs")
CLIPS = {"clip-0.wav": 0.7, "clip-1.wav": 0.31, "clip-2.wav": 1.62}
LINEAR = [*runs.APART, "out_proj", "fc1", "fc2"]
# By family: the plugin's folder, the class, the projector's layers, and how names in the checkpoint differ from the class's.
FAMILIES = {
    "af3": ("af3", "AudioFlamingo3ForConditionalGeneration", ["linear_1", "linear_2"], {
        "model.language_model.": "language_model.model.", "lm_head.": "language_model.lm_head.",
        "model.audio_tower.": "audio_tower.", "model.multi_modal_projector.": "multi_modal_projector."}),
    "omni": ("qwen2-5-omni", "Qwen2_5OmniThinkerForConditionalGeneration", ["proj"], {
        "model.language_model.": "thinker.model.", "lm_head.": "thinker.lm_head.",
        "model.audio_tower.": "thinker.audio_tower."}),
}
# Parts that no words and no sound reach.
UNUSED = ["visual.", "audio_bos_eos_token", "embed_positions"]


def cases(projector: list[str]) -> dict[str, dict]:
    words = r".*language_model.*\.(" + "|".join(runs.APART) + ")"
    return {
        "qlora": {"learning_rate": 5e-3, "lora": {"r": 3, "lora_alpha": 9, "use_rslora": True, "target_modules": words},
                  "quantised": True},
        "lora_tower": {"learning_rate": 5e-3, "lora": {
            "r": 2, "lora_alpha": 4, "target_modules": LINEAR + projector, "exclude_modules": r".*visual.*"}},
        "full": {"learning_rate": 1e-3, "lora": None, "frozen": []},
    }


class Listener:
    """A checkpoint, its clips, and how rows with them become batches."""

    def __init__(self, family: str, folder: Path):
        plugin, self.model_class, self.projector, self.names = FAMILIES[family]
        self.folder, golden = folder, module(MODELS / plugin / "golden/make.py", f"{family}_make")
        self.family, self.tiny = golden.FAMILY, sys.modules["hearing"]
        processor = self.family.processor
        self.processor = (getattr(transformers, processor).from_pretrained(folder) if isinstance(processor, str)
                          else processor(folder))
        self.place = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(self.family.clip)
        self.sounds, self.counts = {}, {}

    def make_clips(self, out: Path, seed: int) -> None:
        for number, (name, seconds) in enumerate(CLIPS.items()):
            self.sounds[name] = self.tiny.make_clip(out / name, seconds, seed + number)
            self.counts[name] = int((self.heard([name])["input_ids"] == self.place).sum())

    def heard(self, clips: list[str]) -> dict[str, torch.Tensor]:
        made = self.processor(text=[self.family.clip] * len(clips), audio=[self.sounds[clip] for clip in clips],
                              return_tensors="pt", text_kwargs={"padding": True, "padding_side": "right"},
                              audio_kwargs={"sampling_rate": self.tiny.RATE})
        return dict(made.items())

    def row(self, seed: int, number: int, words: list[int]) -> dict:
        """Random tokens with a clip among them, or with none; the end is learnt."""
        random = torch.Generator().manual_seed(seed * 1000 + number)
        length = int(torch.randint(6, 14, (), generator=random))
        ids = [words[place] for place in torch.randint(len(words), (length,), generator=random).tolist()]
        clips = [] if (number // runs.BATCH) % 4 == 1 else [list(CLIPS)[number % len(CLIPS)]]
        head = [ids[0], *([self.place] * sum(self.counts[clip] for clip in clips)), ids[1]]
        learnt = ids[length // 2:] if number != 5 else []
        whole = head + ids[2:length // 2] + ids[length // 2:]
        labels = [-100] * (len(whole) - len(learnt)) + learnt
        return {"input_ids": whole, "labels": labels, "attention_mask": [1] * len(whole), **({"audio": clips} if clips else {})}

    def stored_name(self, name: str) -> str:
        if ".lora_" in name:
            return name.replace(".default.", ".")
        for now, then in self.names.items():
            if name.startswith(now):
                return then + name[len(now):]
        return name


def record(family: str, folder: Path, seed: int, only: list[str]) -> None:
    listener, out = Listener(family, folder), folder / "training"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    listener.make_clips(out, seed)
    words = (torch.randperm(200, generator=torch.Generator().manual_seed(seed))[:16] + 20).tolist()
    rows = [listener.row(seed, number, words) for number in range(runs.ROWS)]
    held_out = [listener.row(seed, number, words) for number in (500, 501, 504)]
    padded = runs.batch_of

    def batch_of(some: list[dict]) -> dict[str, torch.Tensor]:
        batch = padded([{key: row[key] for key in ("input_ids", "labels", "attention_mask")} for row in some])
        clips = [clip for row in some for clip in row.get("audio", [])]
        sound = listener.heard(clips) if clips else {}
        return batch | {key: value for key, value in sound.items() if key not in ("input_ids", "attention_mask")}

    def logits_of(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        wide = {key: value.double() if value.is_floating_point() else value for key, value in batch.items() if key != "labels"}
        return model(**wide, use_cache=False).logits

    def load(*place, **more) -> torch.nn.Module:
        return getattr(transformers, listener.model_class).from_pretrained(*place, **more)

    def start_of(*case) -> torch.nn.Module:
        model = started(*case)
        for name, value in model.named_parameters():
            value.requires_grad_(value.requires_grad and not any(part in name for part in UNUSED))
        return model

    runs.AutoModelForCausalLM, started = type("Loader", (), {"from_pretrained": staticmethod(load)}), runs.start_of
    runs.start_of, runs.batch_of, runs.logits_of, runs.stored_name = start_of, batch_of, logits_of, listener.stored_name
    for file, some in (("rows", rows), ("held_out", held_out)):
        runs.write(out / f"{file}.jsonl", "".join(json.dumps(row) + "\n" for row in some))
    chosen = {name: case for name, case in cases(listener.projector).items() if not only or name in only}
    done = [runs.run(folder, name, case, rows, held_out, seed) for name, case in chosen.items()]
    meta = {
        "family": family, "seed": seed, "order": "as in rows.jsonl", "rows": runs.ROWS, "batch_size": runs.BATCH,
        "accumulation": runs.ACCUMULATION, "steps": runs.STEPS, "schedule": "cosine", "warmup_steps": runs.WARMUP_STEPS,
        "weight_decay": runs.DECAY, "max_grad_norm": runs.CLIP, "betas": runs.BETAS, "eps": runs.EPS,
        "arithmetic": "float64 over the stored values", "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__, "peft": peft.__version__}
    (out / "cases.json").write_text(json.dumps({"meta": meta, "cases": done}) + "\n")
    for path in out.rglob("*.safetensors"):
        path.chmod(0o644)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=FAMILIES)
    parser.add_argument("--folder", type=Path, help="of `--only`")
    parser.add_argument("--case", action="append", default=[], help="this one alone; may be repeated")
    parser.add_argument("--seed", type=int, default=11)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    plain = runs.start_of, runs.batch_of, runs.stored_name
    for family, (plugin, *_) in FAMILIES.items():
        if arguments.only in (None, family):
            runs.start_of, runs.batch_of, runs.stored_name = plain
            folder = arguments.folder or MODELS / plugin / "golden/hears"
            record(family, folder, arguments.seed, arguments.case)


if __name__ == "__main__":
    main()
