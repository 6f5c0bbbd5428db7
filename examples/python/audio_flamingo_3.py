"""Audio Flamingo 3 by transformers' own classes: `-M python=/envs/x/bin/python -M script=audio_flamingo_3.py -M weights=FOLDER`."""
import torch
from host_plugin import Model, split
from transformers import AudioFlamingo3ForConditionalGeneration, AutoProcessor


class Hearing(Model):
    options = {"dtype": "float32", "device": "cpu"}

    def load(self, settings):
        self.device, dtype = settings["device"], getattr(torch, settings["dtype"])
        self.processor = AutoProcessor.from_pretrained(settings["weights"])
        self.model = AudioFlamingo3ForConditionalGeneration.from_pretrained(settings["weights"], dtype=dtype).to(self.device).eval()

    def card(self):
        return {"name": "audio-flamingo-3", "reads": ["text", "audio"], "sample_rate": 16000, "longest_clip": 600, "device": self.device}

    def render(self, prompt):
        how = {"continue_final_message": True} if prompt.begun else {"add_generation_prompt": True}
        return prompt.text if prompt.plain else self.processor.apply_chat_template(prompt.chat(), tokenize=False, **how)

    def inputs(self, prompt, text):
        clips = [clip.numpy() for clip in prompt.clips]
        sound = {"audio": clips, "audio_kwargs": {"sampling_rate": 16000}} if clips else {}
        made = self.processor(text=[text], return_tensors="pt", **sound).to(self.device)
        return {name: value.to(self.model.dtype) if value.is_floating_point() else value for name, value in made.items()}

    def reply(self, prompt):
        inputs = self.inputs(prompt, self.render(prompt))
        read = inputs["input_ids"].shape[1]
        how = {"max_new_tokens": prompt.sampling.get("max_tokens", 256), "do_sample": False, "repetition_penalty": 1.0}
        out = self.model.generate(**inputs, **how)[0, read:]
        usage = {"prompt_tokens": read, "generated_tokens": len(out), "clip_seconds": sum(clip.seconds for clip in prompt.clips)}
        return {"text": prompt.cut(self.processor.tokenizer.decode(out, skip_special_tokens=True)), "usage": usage}

    @torch.inference_mode()
    def choices(self, prompt, options):
        encode = lambda text: self.inputs(prompt, text)["input_ids"][0].tolist()
        for option in options:
            context = self.render(prompt)
            before, after = split(encode, context, option, prompt)
            inputs = self.inputs(prompt, context)
            inputs["input_ids"] = torch.tensor([before + after]).to(self.device)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            logits = self.model(**inputs).logits[0, -len(after) - 1 : -1]
            chosen = logits.float().log_softmax(-1).cpu()[range(len(after)), after]
            yield {"loglik": chosen.sum().item(), "tokens": len(after), "greedy": logits.argmax(-1).tolist() == after}
