"""What the models that hear share: `qwen2_audio.py` and the others beside it say only how theirs differs."""
import torch
from host_plugin import Model, split
from transformers import AutoProcessor


class Hearing(Model):
    options = {"dtype": "float32", "device": "cpu"}
    longest_clip = 30

    def load(self, settings):
        self.device, dtype = settings["device"], getattr(torch, settings["dtype"])
        self.model = self.kind.from_pretrained(settings["weights"], dtype=dtype).to(self.device).eval()
        self.read(settings["weights"])

    def read(self, folder):
        self.processor = AutoProcessor.from_pretrained(folder)
        self.tokenizer = self.processor.tokenizer

    def card(self):
        hears = {"reads": ["text", "audio"], "sample_rate": 16000, "longest_clip": self.longest_clip}
        return {"name": self.name, "device": self.device, "precision": str(self.model.dtype), **hears}

    def render(self, prompt):
        how = {"continue_final_message": True} if prompt.begun else {"add_generation_prompt": True}
        return prompt.text if prompt.plain else self.processor.apply_chat_template(prompt.chat(), tokenize=False, **how)

    def process(self, text, clips):
        sound = {"audio": clips, "audio_kwargs": {"sampling_rate": 16000}} if clips else {}
        return self.processor(text=[text], return_tensors="pt", **sound)

    def inputs(self, prompt, text):
        made = self.process(text, [clip.numpy() for clip in prompt.clips])
        made = {name: value.to(self.device) for name, value in made.items()}
        return {name: value.to(self.model.dtype) if value.is_floating_point() else value for name, value in made.items()}

    def reply(self, prompt):
        inputs = self.inputs(prompt, self.render(prompt))
        read = inputs["input_ids"].shape[1]
        how = prompt.generation(self.model.generation_config)
        torch.manual_seed(prompt.sampling.get("seed", 0))
        out = self.model.generate(**inputs, **how)[0, read:]
        finish = "length" if len(out) == how["max_new_tokens"] else "stop"
        usage = {"prompt_tokens": read, "generated_tokens": len(out), "clip_seconds": sum(clip.seconds for clip in prompt.clips)}
        return {"text": prompt.cut(self.tokenizer.decode(out, skip_special_tokens=True)), "finish": finish, "usage": usage}

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
            greedy = logits.argmax(-1).tolist() == after
            yield {"loglik": chosen.sum().item(), "tokens": len(after), "greedy": greedy, "prompt_tokens": len(before)}
