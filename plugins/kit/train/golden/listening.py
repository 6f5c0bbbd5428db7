#!/usr/bin/env python3
"""Records short training runs of Audio Flamingo 3 and Qwen2.5-Omni, into the folder `training` of a checkpoint that their own
`golden/make.py` made.

    pip install torch==2.15.0 transformers==5.23.0 peft==0.21.2 safetensors tokenizers
    python listening.py                                       # on both that are committed
    python listening.py --only af3 --folder DIR --seed 70     # another: `AF3_TRAINING=DIR cargo test -p af3`

Clips of several lengths, one beyond what the encoder hears at a time, pass the audio tower in every step. How a run is
computed and compared with transformers' Trainer is `runs.py` beside this file.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoTokenizer

from runs import BATCH, HERE, LINEAR, ROWS, Runs, begin, emptied, padded

MODELS = HERE.parents[2] / "models"


def module(path: Path, name: str):
    """One of the scripts that are all called `make.py`."""
    spec = importlib.util.spec_from_file_location(name, path)
    made = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(made)
    return made


CLIPS = {"clip-0.wav": 0.7, "clip-1.wav": 0.31, "clip-2.wav": 1.62}
# By family: the plugin's folder, the class, the projector's layers, and how names in the checkpoint differ from the class's.
FAMILIES = {
    "af3": ("af3", "AudioFlamingo3ForConditionalGeneration", ["linear_1", "linear_2"], {
        "model.language_model.": "language_model.model.", "lm_head.": "language_model.lm_head.",
        "model.audio_tower.": "audio_tower.", "model.multi_modal_projector.": "multi_modal_projector."}),
    "omni": ("qwen2-5-omni", "Qwen2_5OmniThinkerForConditionalGeneration", ["proj"], {
        "model.language_model.": "thinker.model.", "lm_head.": "thinker.lm_head.",
        "model.audio_tower.": "thinker.audio_tower."}),
}
COMMITTED = ["lora_tower", "full"]


def cases(projector: list[str]) -> dict[str, dict]:
    words = r".*language_model.*\.(" + "|".join(LINEAR) + ")"
    return {
        "qlora": {"learning_rate": 5e-3, "lora": {"r": 3, "lora_alpha": 9, "use_rslora": True, "target_modules": words},
                  "quantised": True},
        "lora_tower": {"learning_rate": 5e-3, "lora": {
            "r": 2, "lora_alpha": 4, "target_modules": [*LINEAR, "out_proj", "fc1", "fc2", *projector], "exclude_modules": r".*visual.*"}},
        "full": {"learning_rate": 1e-3, "lora": None, "frozen": []},
    }


class Listening(Runs):
    """Over a checkpoint of a model that hears."""

    # No words and no sound reach these.
    unused = ["visual.", "audio_bos_eos_token", "embed_positions"]

    def __init__(self, family: str, folder: Path, seed: int) -> None:
        plugin, self.model_class, self.projector, self.names = FAMILIES[family]
        self.golden = module(MODELS / plugin / "golden/make.py", f"{family}_make").FAMILY
        self.tiny = sys.modules["hearing"]
        processor = self.golden.processor
        self.processor = (getattr(transformers, processor).from_pretrained(folder) if isinstance(processor, str)
                          else processor(folder))
        self.place = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(self.golden.clip)
        out, self.sounds, self.counts = emptied(folder / "training"), {}, {}
        for number, (name, seconds) in enumerate(CLIPS.items()):
            self.sounds[name] = self.tiny.make_clip(out / name, seconds, seed + number)
            self.counts[name] = int((self.heard([name])["input_ids"] == self.place).sum())
        words = (torch.randperm(200, generator=torch.Generator().manual_seed(seed))[:16] + 20).tolist()
        rows, held_out = ([self.row(seed, number, words) for number in numbers] for numbers in (range(ROWS), (500, 501, 504)))
        super().__init__(folder, seed, rows, held_out)

    def heard(self, clips: list[str]) -> dict[str, torch.Tensor]:
        made = self.processor(text=[self.golden.clip] * len(clips), audio=[self.sounds[clip] for clip in clips],
                              return_tensors="pt", text_kwargs={"padding": True, "padding_side": "right"},
                              audio_kwargs={"sampling_rate": self.tiny.RATE})
        return dict(made.items())

    def row(self, seed: int, number: int, words: list[int]) -> dict:
        """Random tokens with a clip among them, or with none; the end is learnt."""
        random = torch.Generator().manual_seed(seed * 1000 + number)
        length = int(torch.randint(6, 14, (), generator=random))
        ids = [words[place] for place in torch.randint(len(words), (length,), generator=random).tolist()]
        clips = [] if (number // BATCH) % 4 == 1 else [list(CLIPS)[number % len(CLIPS)]]
        head = [ids[0], *([self.place] * sum(self.counts[clip] for clip in clips)), ids[1]]
        learnt = ids[length // 2:] if number != 5 else []
        whole = head + ids[2:]
        labels = [-100] * (len(whole) - len(learnt)) + learnt
        return {"input_ids": whole, "labels": labels, "attention_mask": [1] * len(whole), **({"audio": clips} if clips else {})}

    def load(self) -> torch.nn.Module:
        load = getattr(transformers, self.model_class).from_pretrained
        return load(self.folder, attn_implementation="eager", dtype=torch.float32)

    def batch_of(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        clips = [clip for row in rows for clip in row.get("audio", [])]
        sound = self.heard(clips) if clips else {}
        return padded(rows) | {key: value for key, value in sound.items() if key not in ("input_ids", "attention_mask")}

    def logits_of(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return super().logits_of(model, {n: v.double() if v.is_floating_point() else v for n, v in batch.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=FAMILIES)
    parser.add_argument("--folder", type=Path, help="of `--only`")
    parser.add_argument("--case", action="append", default=[], help="this one alone; may be repeated")
    parser.add_argument("--seed", type=int, default=11)
    arguments = parser.parse_args()
    begin()
    for family, (plugin, *_) in FAMILIES.items():
        if arguments.only in (None, family):
            runs = Listening(family, arguments.folder or MODELS / plugin / "golden/hears", arguments.seed)
            wanted = arguments.case or (COMMITTED if arguments.folder is None else cases([]))
            runs.record(family, {name: case for name, case in cases(runs.projector).items() if name in wanted})


if __name__ == "__main__":
    main()
