"""Any text model of transformers: `-M python=/envs/x/bin/python -M script=transformers_text.py -M weights=FOLDER`."""
import torch
from host_plugin import Model, split
from transformers import AutoModelForCausalLM, AutoTokenizer


class Text(Model):
    options = {"dtype": "float32", "device": "cpu"}

    def load(self, settings):
        self.device, dtype = settings["device"], getattr(torch, settings["dtype"])
        self.tokenizer = AutoTokenizer.from_pretrained(settings["weights"])
        self.model = AutoModelForCausalLM.from_pretrained(settings["weights"], dtype=dtype).to(self.device).eval()

    def card(self):
        return {"name": self.model.config.model_type, "device": self.device, "precision": str(self.model.dtype)}

    def render(self, prompt):
        how = {"continue_final_message": True} if prompt.begun else {"add_generation_prompt": True}
        how |= {} if prompt.thinking is None else {"enable_thinking": prompt.thinking}
        return prompt.text if prompt.plain else self.tokenizer.apply_chat_template(prompt.chat(), tokenize=False, **how)

    def reply(self, prompt):
        ids = self.tokenizer(self.render(prompt), add_special_tokens=prompt.plain, return_tensors="pt").to(self.device)
        how = prompt.generation(self.model.generation_config)
        torch.manual_seed(prompt.sampling.get("seed", 0))
        out = self.model.generate(**ids, **how)[0, ids.input_ids.shape[1] :]
        usage = {"prompt_tokens": ids.input_ids.shape[1], "generated_tokens": len(out)}
        finish = "length" if len(out) == how["max_new_tokens"] else "stop"
        return {"text": prompt.cut(self.tokenizer.decode(out, skip_special_tokens=True)), "finish": finish, "usage": usage}

    @torch.inference_mode()
    def choices(self, prompt, options):
        encode = lambda text: self.tokenizer(text, add_special_tokens=prompt.plain).input_ids
        for before, after in [split(encode, self.render(prompt), option, prompt) for option in options]:
            logits = self.model(torch.tensor([before + after]).to(self.device)).logits[0, len(before) - 1 : -1]
            chosen = logits.float().log_softmax(-1).cpu()[range(len(after)), after]
            greedy = logits.argmax(-1).tolist() == after
            yield {"loglik": chosen.sum().item(), "tokens": len(after), "greedy": greedy, "prompt_tokens": len(before)}
