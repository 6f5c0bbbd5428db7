"""Qwen2-Audio by transformers' own classes: `-M python=/envs/x/bin/python -M script=qwen2_audio.py -M weights=FOLDER`."""
from hearing import Hearing
from transformers import Qwen2AudioForConditionalGeneration


class Qwen2Audio(Hearing):
    name, kind, longest_clip = "qwen2-audio", Qwen2AudioForConditionalGeneration, 30
