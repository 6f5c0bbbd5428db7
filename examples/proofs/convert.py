"""python convert.py FILE.gguf OUT: a GGUF file's weights, widened to float32, as a folder in the Hugging Face layout."""
import os
import sys

import torch
import transformers

file, out = sys.argv[1:]
folder, name = os.path.split(os.path.abspath(file))
tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)
read = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
# What was read knows that it came from quantised blocks, and would not be saved as plain weights.
if hasattr(read.config, "quantization_config"):
    del read.config.quantization_config
model = transformers.AutoModelForCausalLM.from_config(read.config, dtype=torch.float32)
model.load_state_dict(read.state_dict())
model.save_pretrained(out)
tokenizer.save_pretrained(out)
