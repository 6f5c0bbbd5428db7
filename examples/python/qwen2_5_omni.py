"""Qwen2.5-Omni's thinker by transformers' own classes: `-M python=/envs/x/bin/python -M script=qwen2_5_omni.py -M weights=FOLDER`."""
import json
from pathlib import Path

from hearing import Hearing
from transformers import AutoTokenizer, Qwen2_5OmniThinkerForConditionalGeneration, WhisperFeatureExtractor

SOUND = "<|AUDIO|>"


class Thinker(Hearing):
    name, kind, longest_clip = "qwen2.5-omni", Qwen2_5OmniThinkerForConditionalGeneration, 300

    def read(self, folder):
        # Its processor wants a reader of pictures and one of films, hence torchvision. For sound these two do.
        self.tokenizer = self.processor = AutoTokenizer.from_pretrained(folder)
        self.extract = WhisperFeatureExtractor.from_pretrained(folder)
        beside = Path(folder) / "chat_template.json"
        if beside.is_file():
            self.tokenizer.chat_template = json.loads(beside.read_text(encoding="utf-8"))["chat_template"]

    def process(self, text, clips):
        made, counts = {}, []
        if clips:
            how = {"sampling_rate": 16000, "return_attention_mask": True, "padding": "max_length", "return_tensors": "pt"}
            heard = self.extract(clips, **how)
            frames = heard["attention_mask"].sum(-1)
            # Padded to five minutes, of which the model reads what the mask keeps.
            kept = slice(int(frames.max()))
            made = {"input_features": heard["input_features"][..., kept], "feature_attention_mask": heard["attention_mask"][:, kept]}
            # A convolution with stride 2, then pooling by pairs.
            counts = [(((frame - 1) // 2 + 1) - 2) // 2 + 1 for frame in frames.tolist()]
        pieces = text.split(SOUND)
        if len(pieces) != len(counts) + 1:
            raise ValueError(f"the prompt has {len(pieces) - 1} places for {len(counts)} clips")
        filled = "".join(piece + SOUND * count for piece, count in zip(pieces, counts + [0]))
        words = self.tokenizer([filled], return_tensors="pt", add_special_tokens=False)
        return {"input_ids": words["input_ids"], "attention_mask": words["attention_mask"], **made}
