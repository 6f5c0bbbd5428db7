"""What a Python model of `host` needs: a class with two methods, in an environment of your own.

    from host_plugin import Model

    class Mine(Model):
        def card(self):
            return {"name": "mine"}

        def reply(self, prompt):
            return prompt.text.upper()

The host starts this interpreter, sends prompts over a socket and takes replies. It brings its own copy of this file; one
beside your script is for your editor and your own tests. It needs Python 3.8 and nothing else.
"""

import array
import json
import os
import queue
import struct
import sys
import threading
import traceback

__all__ = ["Model", "Prompt", "Clip", "Jobs", "Stopped", "Unsupported", "split"]


class Unsupported(Exception):
    """This model can't do what was asked."""


class Stopped(Exception):
    """The host asked to stop."""


class _Settings(ValueError):
    """A setting that the script does not take."""


class Clip:
    """Sound: `samples` are floats between -1 and 1, at `rate` samples a second; channels lie side by side."""

    def __init__(self, rate, channels, samples):
        self.rate, self.channels, self.samples = rate, channels, samples

    @property
    def seconds(self):
        return len(self.samples) / max(self.channels, 1) / self.rate

    def numpy(self):
        import numpy

        return numpy.frombuffer(self.samples, dtype=numpy.float32)


class Prompt:
    """What is asked. `data` holds all of it, as the host's contract writes it."""

    def __init__(self, data, clips=()):
        self.data, self.clips = data, list(clips)
        self.messages = data.get("messages", [])
        self.plain = data.get("plain", False)
        self.thinking = data.get("thinking")
        self.tools = data.get("tools", [])
        want = data.get("want", {"kind": "text"})
        self.sampling = want.get("sampling", {})
        self.options = want.get("options") if want.get("kind") == "choice" else None

    @property
    def text(self):
        """The words of the user's last message, or all words of a plain prompt."""
        if self.plain:
            return "".join(_words(message) for message in self.messages)
        users = [message for message in self.messages if message.get("role", "user") == "user"]
        return _words(users[-1]) if users else ""

    def chat(self):
        """The messages as chat templates of transformers read them: clips are parts of the type `audio`."""
        chat = []
        for message in self.messages:
            parts = message.get("parts", [])
            if all(part["part"] == "text" for part in parts):
                content = _words(message)
            else:
                content = [
                    {"type": "text", "text": part["text"]} if part["part"] == "text" else {"type": "audio", "audio": part["clip"]}
                    for part in parts
                ]
            turn = {"role": message.get("role", "user"), "content": content}
            for ours, theirs in (("thinking", "reasoning_content"), ("tool_calls", "tool_calls"), ("name", "name")):
                if message.get(ours):
                    turn[theirs] = message[ours]
            chat.append(turn)
        return chat

    def cut(self, text):
        """The text before the first stop string."""
        ends = [text.find(stop) for stop in self.sampling.get("stop", []) if stop in text]
        return text[: min(ends)] if ends else text

    def generation(self, checkpoint):
        """What `generate` of transformers takes. `checkpoint` is the model's `generation_config`.

        What a prompt leaves open is as the checkpoint's publisher has it, a repetition penalty above all: so it is with every
        model of the host, and `generate` reads the same file.
        """
        names = {
            "max_tokens": "max_new_tokens", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p",
            "repetition_penalty": "repetition_penalty", "beams": "num_beams", "length_penalty": "length_penalty",
        }
        given = {theirs: self.sampling[ours] for ours, theirs in names.items() if self.sampling.get(ours) is not None}
        if self.sampling.get("temperature") is not None:
            given["do_sample"] = self.sampling["temperature"] > 0
            given["temperature"] = self.sampling["temperature"] or 1.0
        given.setdefault("max_new_tokens", getattr(checkpoint, "max_new_tokens", None) or 256)
        return given

    @property
    def begun(self):
        """True when the last message is the assistant's: it is to be gone on with."""
        return bool(self.messages) and self.messages[-1].get("role") == "assistant"


def _words(message):
    return "".join(part.get("text", "") for part in message.get("parts", []) if part.get("part") == "text")


def split(encode, context, option, prompt):
    """The tokens of a context and of an option behind it, by the rule of every model of the host.

    Both are cut together and split at the context's own length. Blanks at the end of what the prompt's author wrote belong
    to the option, and an option that melts into the context is cut alone. `encode` gives the tokens of a text.
    """
    kept = context.rstrip() if prompt.plain or prompt.begun else context
    option = context[len(kept) :] + option
    before = list(encode(kept))
    after = list(encode(kept + option))[len(before) :]
    return before, after or list(encode(option))


class Model:
    """Derive from it. `card` and `reply` are all it needs."""

    #: Settings of your own: names with their defaults. The host takes `-M NAME=VALUE` for each, in the default's type.
    options = {}

    def load(self, settings):
        """Reads weights. `settings["weights"]` is a folder when the user named one."""

    def card(self):
        """What the model is: at least a name. `reads`: ["text", "audio"], `sample_rate`, `batch`, `context`."""
        raise NotImplementedError("a model says what it is in `card(self)`")

    def reply(self, prompt):
        """The answer: a text, or a dict with `text`, `thinking`, `usage`. Pieces go out by `self.token(text)`."""
        raise NotImplementedError("a model answers in `reply(self, prompt)`")

    def choices(self, prompt, options):
        """The log-likelihood of each option: numbers, or dicts with `loglik`, `tokens`, `greedy`, `prompt_tokens`."""
        raise Unsupported("this model scores no options")

    def serve(self, jobs):
        """Answers prompts until there are no more. Write your own to answer several at a time."""
        for job in jobs:
            jobs.answer(job, self)

    def token(self, text):
        """Passes a piece of the answer on. Raises `Stopped` when nobody wants more."""
        if self._jobs is not None:
            self._jobs.token(text)

    _jobs = None


class Job:
    """A prompt that waits for its answer."""

    def __init__(self, number, prompt):
        self.id, self.prompt = number, prompt


class Jobs:
    """Prompts, pulled when there is room for one."""

    def __init__(self, link):
        self._link, self._ended, self._now = link, False, None

    @property
    def stopped(self):
        """True when the host asked to stop: long work looks here now and then."""
        return self._link.stopped.is_set()

    def next(self, wait=None):
        """The next job; none when there is none within so many seconds, or none any more."""
        while not self._ended and not self.stopped:
            answer, raw = self._link.ask({"want": 1, "wait_ms": int(1000 * (60 if wait is None else wait))})
            if answer.get("end"):
                self._ended = True
            elif "job" in answer:
                return Job(answer["job"], _prompt(answer, raw))
            elif wait is not None:
                return None
        return None

    def __iter__(self):
        while True:
            job = self.next()
            if job is None:
                return
            yield job

    def batches(self, size):
        """Lists of at most `size` jobs: as many as wait at the moment."""
        while True:
            first = self.next()
            if first is None:
                return
            batch = [first]
            while len(batch) < size:
                more = self.next(0)
                if more is None:
                    break
                batch.append(more)
            yield batch

    def done(self, job, reply):
        """Hands an answer back."""
        self._link.send({"done": job.id, "reply": _reply(reply)})

    def failed(self, job, error):
        """Hands an exception back in place of an answer."""
        self._link.send(dict(_failure(error), failed=job.id))

    def answer(self, job, model):
        """Answers one job by the model's own methods. What it raises costs this job and no other."""
        self._now, model._jobs = job, self
        try:
            if job.prompt.options is None:
                self.done(job, model.reply(job.prompt))
            else:
                scores = [_score(option, score) for option, score in zip(job.prompt.options, model.choices(job.prompt, job.prompt.options))]
                read = max((score.pop("prompt_tokens", 0) for score in scores), default=0)
                self.done(job, {"options": scores, "usage": {"prompt_tokens": read}})
        except Exception as error:
            self.failed(job, error)
        finally:
            self._now = None

    def token(self, text):
        if self._now is not None:
            self._link.send({"token": self._now.id, "text": text})
        if self.stopped:
            raise Stopped("stopped because the host asked for it")


def _prompt(answer, raw):
    clips, at = [], 0
    for clip in answer.get("clips", []):
        size = 4 * clip["samples"]
        clips.append(Clip(clip["rate"], clip["channels"], memoryview(raw)[at : at + size].cast("f")))
        at += size
    return Prompt(answer["prompt"], clips)


def _reply(reply):
    if isinstance(reply, str):
        return {"text": reply}
    if isinstance(reply, dict):
        return reply
    raise TypeError(f"`reply` gave a {type(reply).__name__}, expected a text or a dict")


def _score(option, score):
    if not isinstance(score, dict):
        score = {"loglik": float(score)}
    return dict({"bytes": len(option.encode())}, **score)


def _failure(error):
    """An exception as the host keeps it: what Python says, its last lines first."""
    kinds = [kind.__name__ for kind in type(error).__mro__]
    code = "other"
    if isinstance(error, MemoryError) or "OutOfMemoryError" in kinds or "out of memory" in str(error).lower():
        code = "memory"
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()
    elif isinstance(error, (Unsupported, NotImplementedError)):
        code = "unsupported"
    elif isinstance(error, _Settings):
        code = "settings"
    elif isinstance(error, Stopped):
        code = "cancelled"
    elif isinstance(error, ImportError):
        code = "missing"
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    lines = "".join(lines).rstrip().splitlines()
    return {"code": code, "message": f"{type(error).__name__}: {error}", "lines": lines[-12:]}


class _Link:
    """The socket to the host. A thread reads, so that a wish to stop is seen in the middle of a call."""

    def __init__(self, socket):
        self._socket, self._lock = socket, threading.Lock()
        self._answers, self.stopped = queue.Queue(), threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _take(self, size):
        data = bytearray(size)
        view, at = memoryview(data), 0
        while at < size:
            got = self._socket.recv_into(view[at:])
            if got == 0:
                os._exit(0)  # the host is gone, and whatever this is in the middle of, nobody waits for it
            at += got
        return data

    def _read(self):
        try:
            while True:
                size, raw = struct.unpack("<II", self._take(8))
                head, body = json.loads(self._take(size)), self._take(raw)
                if head.get("stop"):
                    self.stopped.set()
                else:
                    self._answers.put((head, body))
        except Exception:
            os._exit(1)

    def send(self, head):
        data = json.dumps(head, allow_nan=True, default=_plain).encode()
        with self._lock:
            self._socket.sendall(struct.pack("<II", len(data), 0) + data)

    def ask(self, head):
        self.send(head)
        return self.next()

    def next(self):
        return self._answers.get()


def _plain(value):
    """Numbers of other libraries as Python's own."""
    for name in ("item", "tolist"):
        if hasattr(value, name):
            return getattr(value, name)()
    raise TypeError(f"a {type(value).__name__} is not JSON")


def _versions(script):
    from importlib import metadata

    names = {"torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors", "numpy", "bitsandbytes", "vllm"}
    found = {"python": sys.version.split()[0]}
    for name in sorted(names | set(getattr(script, "packages", ()))):
        try:
            found[name] = metadata.version(name)
        except Exception:
            pass
    return found


def _own_model(path):
    import importlib.util

    spec = importlib.util.spec_from_file_location("script", path)
    script = importlib.util.module_from_spec(spec)
    sys.modules["script"] = script
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    spec.loader.exec_module(script)
    own = [
        kind
        for kind in vars(script).values()
        if isinstance(kind, type) and issubclass(kind, Model) and kind.__module__ == "script"
    ]
    if len(own) != 1:
        raise ImportError(f"`{path}` holds {len(own)} classes that derive from `Model`, expected one")
    return script, own[0]()


def _settings(model, given):
    """The user's settings in the types of their defaults. One that the model does not declare is an error."""
    settings = dict(model.options)
    for name, value in given.items():
        if name in ("weights",):
            settings[name] = value
        elif name not in model.options:
            known = ", ".join(f"`{name}`" for name in model.options) or "none"
            raise _Settings(f"the script has no setting `{name}`; it has {known}")
        else:
            default = model.options[name]
            if isinstance(default, bool) and isinstance(value, str):
                value = value.lower() in ("true", "1", "yes", "on")
            elif isinstance(default, (int, float)) and not isinstance(default, bool):
                try:
                    value = type(default)(value)
                except (TypeError, ValueError):
                    raise _Settings(f"setting `{name}` is `{value}`, expected a number") from None
            settings[name] = value
    return settings


def main(socket):
    """Serves the host until it is gone."""
    link = _Link(socket)
    start, _ = link.next()
    try:
        script, model = _own_model(start["script"])
        model.load(_settings(model, start["settings"]))
        card = dict(model.card())
        if type(model).choices is not Model.choices:
            card.setdefault("scores_choices", True)
        card.setdefault("reads", ["text"])
        link.send({"ready": card, "versions": _versions(script)})
    except BaseException as error:
        link.send(dict(_failure(error), broken=True))
        os._exit(3)
    while True:
        task, _ = link.next()
        link.stopped.clear()
        if not task.get("serve"):
            continue
        try:
            model.serve(Jobs(link))
            link.send({"served": True})
        except Exception as error:
            link.send(dict(_failure(error), served=False))
