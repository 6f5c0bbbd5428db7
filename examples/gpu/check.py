#!/usr/bin/env python3
"""What this project does on a GPU: is it right, how fast is it beside PyTorch, and where does the time go?

    python3 check.py [--out DIR]               # on a machine with NVIDIA's driver; under 8 minutes
    python3 check.py --device cpu              # the same on tiny shapes without a GPU, to see that all of it works

Lies in the folder that `pack.py` made, and needs nothing else but Python 3.9: no network, no compiler. Where the Python that
runs it has torch, transformers and peft, these are measured beside. Writes `gpu.json` and `gpu.md` after each step, so
that what was found is there whatever happens later. What fails, or is not reached in time, is a line of the tables.
"""
import argparse
import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "peers")]  # all in one folder once `pack.py` has packed them
import card  # noqa: E402
import tables  # noqa: E402
import shapes  # noqa: E402

PARTS = ["equal", "runs", "speed", "training"]
MODELS = "plugins/models"
# Model, and what was recorded of it: folders, or a GGUF file and the folder whose recordings it is held against.
RECORDED = [
    ("qwen3", [f"qwen3/golden/{name}" for name in ("tied", "qwen2", "llama", "sharded")]),
    ("qwen3", [f"qwen3/golden/others/{name}" for name in ("mistral", "smollm3", "phi3", "olmo2", "granite", "glm4", "glm")]),
    ("qwen3", [("qwen3/golden/gguf/tied.gguf", "qwen3/golden/tied"), ("qwen3/golden/gguf/llama.gguf", "qwen3/golden/llama")]),
    ("gemma", ["gemma/golden/text", "gemma/golden/multimodal", ("gemma/golden/gguf/text.gguf", "gemma/golden/text")]),
    ("qwen2-audio", ["qwen2-audio/golden/hears"]),
    ("af3", ["af3/golden/hears"]),
    ("salmonn", ["salmonn/golden/tiny"]),
    ("qwen2.5-omni", ["qwen2-5-omni/golden/hears"]),
]
TRAINED = [("qwen3", "qwen3"), ("gemma", "gemma3"), ("qwen2-audio", "qwen2audio")]
# Not that logits are near, which rounding to bf16 decides: that all which is computed fits together. They reach 12.
NEAR_IN_BF16 = 1.0


class Failed(Exception):
    pass


class Check:
    def __init__(self, wanted):
        self.wanted, self.on_gpu = wanted, wanted.device == "cuda"
        self.end = time.monotonic() + 60 * wanted.minutes
        self.out = wanted.out.resolve()
        self.out.mkdir(parents=True, exist_ok=True)
        self.found = {"device": wanted.device, "card": {}, "equal": {}, "runs": {}, "speed": {}, "training": {}}
        self.lock, self.began = threading.Lock(), time.monotonic()
        self.environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

    def step(self, part, name, limit, work):
        """Does some work, which answers with an object, and notes what came of it; what fails is noted too."""
        began = time.monotonic()
        left = min(limit, self.end - began)
        try:
            if left < 3:
                raise Failed(f"not reached within {self.wanted.minutes:g} minutes")
            row = work(left)
        except Exception as why:
            row = {"failed": reason(why)}
        row["seconds"] = round(time.monotonic() - began, 1)
        with self.lock:
            self.found[part][name] = row
            self.found["minutes"] = round((time.monotonic() - self.began) / 60, 2)
            text = json.dumps(self.found, indent=1) + "\n"
            (self.out / "gpu.json").write_text(text)
            (self.out / "gpu.md").write_text(self.tables())
            print(f"{time.monotonic() - self.began:6.1f} s  {part}: {name}: {tables.short(row)}", flush=True)
        return row

    def tables(self):
        try:
            return tables.markdown(self.found)
        except Exception as why:
            return f"The tables could not be made, all is in gpu.json: {reason(why)}\n"

    def call(self, command, limit, codes=(0,)):
        """What a program prints. It is ended when its time is over, with all that it started."""
        process = subprocess.Popen([str(word) for word in command], text=True, env=self.environment, cwd=self.place, start_new_session=True,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(timeout=limit)
        except BaseException as why:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if isinstance(why, subprocess.TimeoutExpired):
                raise Failed(f"not done within {limit:.0f} s") from None
            raise
        if process.returncode not in codes:
            said = [line.strip() for line in err.splitlines() if line.strip()]
            first = next((number for number, line in enumerate(said) if "rror" in line), max(len(said) - 3, 0))
            ended = f"exit {process.returncode}" if process.returncode > 0 else f"ended by signal {-process.returncode}"
            raise Failed(": ".join([ended, *filter(None, [" / ".join(said[first:first + 4])])]))
        return out

    def host(self, *words):
        return [self.place / "host", *words]

    # What is there.

    def unpack(self, folder):
        there = HERE / "payload"
        self.place = there if there.is_dir() else Path(folder)
        if not there.is_dir():
            with tarfile.open(HERE / "payload.tar.xz") as payload:
                payload.extractall(folder)
        self.environment["HOME"] = folder
        self.environment.pop("XDG_CONFIG_HOME", None)
        return json.loads((self.place / "packed.json").read_text())

    def machine(self, limit):
        cores = len(os.sched_getaffinity(0))
        found = {"cores": cores, "torch": self.version("torch"), "transformers": self.version("transformers"), "peft": self.version("peft")}
        if not self.on_gpu:
            return found | {"name": "No GPU", "copies_gb_per_second": card.memory_of_this_machine()}
        folders, missing = card.library_folders()
        before = self.environment.get("LD_LIBRARY_PATH")
        self.environment["LD_LIBRARY_PATH"] = ":".join([*folders, *([before] if before else [])])
        found |= {"libraries_from": folders, "libraries_missing": missing}
        measured = json.loads(self.call([sys.executable, HERE / "card.py"], limit))
        found |= measured.pop("facts", {}) | measured
        return found | {"published": card.published(found.get("name", ""))}

    @staticmethod
    def version(package):
        from importlib import metadata

        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return None

    # Is it right?

    def replay(self, model, place, flags=(), limit=60, training=False):
        """Findings of `host parity`, one a comparison."""
        words = ["--training"] if training else []
        out = self.call(self.host("parity", "--json", *words, "--model", model, "-M", f"device={self.wanted.device}", *flags, place),
                        limit, codes=(0, 1))
        findings = [json.loads(line) for line in out.splitlines()]
        errors = [finding["error"]["message"] for finding in findings if finding.get("error")]
        if errors or not findings:
            raise Failed(errors[0] if errors else "nothing was compared")
        return findings

    def recorded(self, place):
        """A folder to replay: that of a GGUF file is put together."""
        if isinstance(place, str):
            return self.place / MODELS / place
        file, golden = place
        folder = Path(tempfile.mkdtemp(dir=self.place))
        shutil.copy(self.place / MODELS / file, folder / "model.gguf")
        shutil.copytree(self.place / MODELS / golden / "golden", folder / "golden")
        return folder / "model.gguf"

    def equal(self, model, place, limit):
        findings = self.replay(model, self.recorded(place), limit=limit)
        wrong = [f"{one['case']}, {one['what']}: {one.get('max_abs_diff')}" for one in findings if not one["ok"]]
        return {"ok": not wrong, "compared": len(findings), "largest": largest(findings), "wrong": wrong[:5]}

    def near(self, model, place, limit):
        findings = self.replay(model, self.recorded(place), ["-M", "dtype=bf16"], limit)
        apart = largest(findings).get("logits")
        if apart is None:
            raise Failed("no logits were compared")
        return {"ok": apart < NEAR_IN_BF16, "compared": len(findings), "largest": {"logits": apart}, "wrong": []}

    def learns(self, model, folder, limit):
        findings = self.replay(model, self.place / "plugins/kit/train/golden" / folder, limit=limit, training=True)
        wrong = [f"{one['case']}: {key} {one['differences'].get(key)}"
                 for one in findings for key, within in one["within"].items() if not within]
        apart = {}
        for one in findings:
            for key, value in one["differences"].items():
                apart[key] = max(apart.get(key, 0.0), value if isinstance(value, float) else 0.0)
        return {"ok": all(one["ok"] for one in findings), "compared": sum(len(one["within"]) for one in findings),
                "largest": apart, "wrong": wrong[:5]}

    def all_equal(self):
        work = []
        for model, places in RECORDED:
            for place in places:
                name = place if isinstance(place, str) else place[0]
                work.append((f"{name}", lambda left, model=model, place=place: self.equal(model, place, left)))
            if isinstance(places[0], str):
                work.append((f"{places[0]} in bf16", lambda left, model=model, place=places[0]: self.near(model, place, left)))
        for model, folder in TRAINED:
            work.append((f"training of {folder}", lambda left, model=model, folder=folder: self.learns(model, folder, left)))
        # In this order, whichever is done first.
        self.found["equal"] |= {name: {"failed": "not begun"} for name, _ in work}
        # A broken one spoils its own process alone; several at a time fit on any card.
        with ThreadPoolExecutor(4 if self.on_gpu else os.cpu_count()) as pool:
            list(pool.map(lambda one: self.step("equal", one[0], 60, one[1]), work))

    # The same through whole runs, wide enough for blocks of 256 values.

    def answered(self, weights, device, settings, limit):
        """Log-likelihoods of all options of the demo's questions."""
        out = Path(tempfile.mkdtemp(dir=self.place))
        flags = [word for setting in settings for word in ("-M", setting)]
        self.call(self.host("run", "--quiet", "--offline", "--model", "qwen3", "-M", f"weights={weights}", "-M", f"device={device}", *flags,
                            "--task", "arc", "-T", "data=plugins/tasks/arc/demo", "-T", "mode=loglikelihood", "--out", out), limit)
        records = [json.loads(line) for path in out.glob("*/samples.jsonl") for line in path.read_text().splitlines()]
        if not records:
            raise Failed("the run has no records")
        return {record["sample_id"]: [option["loglik"] for option in record["reply"]["options"]] for record in records}

    def all_runs(self):
        weights = self.place / "wide"
        shapes.write(weights, "wide", words=self.place / MODELS / "qwen3/demo")
        exact = {}

        def plainly(left):
            exact.update(self.answered(weights, "cpu", ["dtype=fp32"], left))
            return {"options": sum(map(len, exact.values()))}

        self.step("runs", "fp32 on the processor", 60, plainly)
        for setting in ["dtype=fp32", "dtype=bf16", "quant=q8_0", "quant=q6_k", "quant=q4_k"]:
            def beside(left, setting=setting):
                if not exact:
                    raise Failed("there is no run in fp32 to hold it against")
                processor = self.answered(weights, "cpu", [setting], left)
                here = self.answered(weights, self.wanted.device, [setting], left)
                lost, apart = distance(exact, processor), distance(here, processor)
                # Both round in ways of their own: apart by no more than what rounding costs, twice.
                return {"ok": apart <= max(2 * lost, 1e-3), "options": sum(map(len, here.values())), "apart": apart, "rounding": lost}
            self.step("runs", setting, 60, beside)

    # How fast is it?

    def bench(self, shape, settings, limit):
        flags = [word for setting in settings for word in ("-M", setting)]
        with card.Watch() as watch:
            out = self.call(self.host("bench", "model", "--json", "--shape", shape, "-M", f"device={self.wanted.device}", *flags), limit)
        return json.loads(out) | {"watch": watch.seen}

    def transformers(self, shape, kind, limit):
        self.needs("torch", "transformers")
        with card.Watch() as watch:
            out = self.call([sys.executable, HERE / "with_transformers.py", kind, "--device", self.wanted.device, "--shape", shape], limit)
        return json.loads(out.splitlines()[-1]) | {"watch": watch.seen}

    def needs(self, *packages):
        absent = [package for package in packages if self.version(package) is None]
        if absent:
            raise Failed(f"this Python has no {', '.join(absent)}")

    def all_speeds(self):
        small, large = ("qwen3-0.6b", "qwen3-8b") if self.on_gpu else ("nano", None)
        self.step("speed", f"{small} bf16", 60, lambda left: self.bench(small, ["dtype=bf16"], left))
        self.step("speed", f"{small} bf16 transformers", 90, lambda left: self.transformers(small, "bf16", left))
        if self.on_gpu:
            # As many layers as the smallest, four times as many values: what does not grow is not reading.
            self.step("speed", "qwen3-1.7b bf16", 60, lambda left: self.bench("qwen3-1.7b", ["dtype=bf16"], left))
        yield
        for quant in ["q8_0", "q4_k"]:
            self.step("speed", f"{small} {quant}", 45, lambda left: self.bench(small, [f"quant={quant}"], left))
        if large:
            self.step("speed", f"{large} bf16", 75, lambda left: self.bench(large, ["dtype=bf16"], left))
            self.step("speed", f"{large} bf16 transformers", 90, lambda left: self.transformers(large, "bf16", left))
        self.step("speed", f"{small} fp32", 45, lambda left: self.bench(small, ["dtype=fp32"], left))
        self.step("speed", f"{small} fp32 transformers", 75, lambda left: self.transformers(small, "fp32", left))
        heard = "qwen2-audio-7b" if self.on_gpu else "qwen2-audio-nano"
        self.step("speed", f"{heard} bf16", 75, lambda left: self.bench(heard, ["dtype=bf16"], left))

    def all_training(self):
        shape = "qwen3-0.6b" if self.on_gpu else "nano"
        weights = self.place / "learns"
        shapes.write(weights, shape)
        rows = {"4 rows of 80": (4, 80, 4), "1 row of 1024": (1, 1024, 1024)} if self.on_gpu else {"4 rows of 80": (4, 80, 4)}
        for name, (count, tokens, learnt) in rows.items():
            keys = {"rows": count, "tokens": tokens, "learnt": learnt, "steps": 4}

            def here(left):
                words = [f"{key}={value}" for key, value in keys.items()]
                return json.loads(self.call([self.place / "step", weights, *words, "precision=bf16"], left)) | {"tokens": count * tokens}

            def peft(left):
                self.needs("torch", "transformers", "peft")
                words = [word for key, value in keys.items() for word in (f"--{key}", value)]
                out = self.call([sys.executable, HERE / "training_peft.py", weights, *words, "--dtype", "bf16", "--device", self.wanted.device], left)
                return json.loads(out.splitlines()[-1]) | {"tokens": count * tokens}

            self.step("training", name, 60, here)
            self.step("training", f"{name} peft", 75, peft)
        shutil.rmtree(weights, ignore_errors=True)

    def profile(self, limit):
        """The kernels that took longest, if NVIDIA's profiler is there."""
        program = shutil.which("nsys") or next(iter(sorted(glob.glob("/opt/nvidia/nsight-systems/*/bin/nsys"))), None)
        if program is None:
            raise Failed("`nsys` is not there")
        trace = self.place / "trace"
        self.call([program, "profile", "-t", "cuda", "-o", trace, *self.host("bench", "model", "--shape", "qwen3-0.6b", "-M", "device=cuda", "-M", "dtype=bf16")], limit)
        told = self.call([program, "stats", "-q", "-r", "cuda_gpu_kern_sum,cuda_api_sum", "-f", "csv", f"{trace}.nsys-rep"], limit)
        return {"kernels": told.splitlines()[:30]}

    def go(self):
        parts = self.wanted.only
        with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
            packed = self.step("card", "packed", 60, lambda _: self.unpack(folder))
            if "failed" in packed:
                return
            self.step("card", "machine", 60, self.machine)
            if "equal" in parts:
                self.all_equal()
            speeds = self.all_speeds() if "speed" in parts else iter(())
            next(speeds, None)
            if "training" in parts:
                self.all_training()
            if "runs" in parts:
                self.all_runs()
            next(speeds, None)
            if "speed" in parts and self.on_gpu:
                self.step("card", "profile", 60, self.profile)


def reason(why):
    if isinstance(why, Failed):
        return str(why)
    if isinstance(why, OSError) and why.filename:
        return f"{why.strerror}: {why.filename}"
    return f"{type(why).__name__}: {why}"


def largest(findings):
    """Of each kind of number the largest difference."""
    apart = {}
    for one in findings:
        if one.get("max_abs_diff") is not None:
            apart[one["what"]] = max(apart.get(one["what"], 0.0), one["max_abs_diff"])
    return apart


def distance(these, those):
    """The largest difference of two runs' log-likelihoods."""
    if these.keys() != those.keys():
        raise Failed(f"{len(these)} samples were answered, expected {len(those)}")
    return max(abs(a - b) for sample in these for a, b in zip(these[sample], those[sample]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"], help="cpu: a trial without a GPU, on tiny shapes")
    parser.add_argument("--out", type=Path, default=Path("gpu-found"), help="receives gpu.json and gpu.md")
    parser.add_argument("--minutes", type=float, default=7.5, help="what is not begun by then is left out, and said so")
    parser.add_argument("--only", nargs="+", default=PARTS, choices=PARTS, metavar="PART", help=f"some of {', '.join(PARTS)}")
    check = Check(parser.parse_args())
    with contextlib.suppress(KeyboardInterrupt):
        check.go()
    print(f"\n{check.tables()}\n{check.out / 'gpu.json'}\n{check.out / 'gpu.md'}")


if __name__ == "__main__":
    main()
