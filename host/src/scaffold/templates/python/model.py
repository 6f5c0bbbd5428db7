"""@NAME@: say here what the model is, and what a newcomer would question."""

from host_plugin import Model


class Echo(Model):
    options = {"before": ""}

    def load(self, settings):
        self.before = settings["before"]

    def card(self):
        return {"name": "@NAME@"}

    def reply(self, prompt):
        said = prompt.cut(self.before + prompt.text)
        words, most = [], prompt.sampling.get("max_tokens")
        for word in said.replace(" ", " \n").split("\n") if said else []:
            if len(words) == most:
                return {"text": "".join(words), "finish": "length", "usage": {"generated_tokens": most}}
            self.token(word)  # raises when the host wants no more
            words.append(word)
        return {"text": "".join(words), "usage": {"generated_tokens": len(words)}}
