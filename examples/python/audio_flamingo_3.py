"""Audio Flamingo 3 by transformers' own classes: `-M python=/envs/x/bin/python -M script=audio_flamingo_3.py -M weights=FOLDER`."""
from hearing import Hearing
from transformers import AudioFlamingo3ForConditionalGeneration


class AudioFlamingo3(Hearing):
    name, kind, longest_clip = "audio-flamingo-3", AudioFlamingo3ForConditionalGeneration, 600
