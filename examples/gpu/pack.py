#!/usr/bin/env python3
"""Packs what `check.py` needs on a machine with a GPU and nothing else: one folder, at most 60 MB.

    eval "$(... exports of a CUDA toolkit: nvcc on PATH, CUDA_HOME ...)"
    python3 examples/gpu/pack.py --cuda                   # builds for CUDA (20 minutes of two cores and more), packs into target/gpu
    cargo build --release && cargo build --release -p train --example step
    python3 examples/gpu/pack.py                          # the ordinary build, to try all of it without a GPU

Then carry the folder over and run `python3 target/gpu/check.py` there. Needs Python 3.9, `strip` and, with `--cuda`, cargo.
"""
import argparse
import io
import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODELS = ["qwen3", "gemma", "qwen2-audio", "af3", "salmonn", "qwen2-5-omni"]
PROGRAMS = ["host", "examples/step", *(f"lib{name.replace('-', '_')}.so" for name in [*MODELS, "arc"])]
FOLDERS = [*(f"plugins/models/{name}/golden" for name in MODELS), "plugins/models/qwen3/demo", "plugins/kit/train/golden", "plugins/tasks/arc/demo"]
BESIDE = ["examples/gpu/check.py", "examples/gpu/card.py", "examples/gpu/shapes.py", "examples/gpu/tables.py",
          "examples/peers/with_transformers.py", "examples/peers/work.py", "examples/peers/training_peft.py"]
MOST = 60_000_000


def build() -> Path:
    """With kernels as small as they get: each plugin has all of them."""
    target = ROOT / "target/cuda"
    environment = {"CUDA_COMPUTE_CAP": "90", **os.environ, "NVCC_APPEND_FLAGS": "--compress-mode=size"}
    crates = [word for name in ["host", *MODELS, "arc", "train"] for word in ("-p", name)]
    command = ["cargo", "build", "--release", "--target-dir", target, "--features", "cuda", "--lib", "--bins", "--example", "step", *crates]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return target / "release"


def commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.strip()

    return "commit " + git("rev-parse", "--short=12", "HEAD") + (" with changes" if git("status", "--porcelain", "-uno") else "")


def payload(built: Path, cuda: bool, out: Path) -> int:
    """All that is unpacked there, in one archive: what programs have in common is found only within one. Gives its size as it was."""
    whole = 0

    def add(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
        nonlocal whole
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(content), mode
        tar.addfile(member, io.BytesIO(content))
        whole += len(content)

    # The window holds all of it: programs that were linked with the same kernels repeat what lies tens of MB before.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 192 << 20}]
    with lzma.open(out, "wb", filters=filters) as packed, tarfile.open(fileobj=packed, mode="w") as tar, tempfile.TemporaryDirectory() as scratch:
        for program in PROGRAMS:
            file = built / program
            if not file.is_file():
                sys.exit(f"there is no `{file}`: see `{Path(__file__).name} --help` for what to build")
            bare = Path(scratch) / file.name
            subprocess.run(["strip", "-o", bare, file], check=True)
            add(tar, file.name, bare.read_bytes(), 0o755)
        # The repository's own places: so its registry names its plugins and demos as it does here.
        for folder in FOLDERS:
            for path in sorted((ROOT / folder).rglob("*")):
                if path.is_file() and path.suffix not in (".py", ".pyc"):
                    add(tar, str(path.relative_to(ROOT)), path.read_bytes(), 0o644)
        add(tar, "registry.toml", (ROOT / "registry.toml").read_bytes(), 0o644)
        add(tar, "packed.json", json.dumps({"build": commit(), "cuda": cuda}).encode(), 0o644)
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuda", action="store_true", help="build with the feature `cuda`, for CUDA_COMPUTE_CAP (90: Hopper)")
    parser.add_argument("--build", type=Path, help="a folder with programs, instead of target/release")
    parser.add_argument("--out", type=Path, default=ROOT / "target/gpu", help="the folder to carry; what lies there goes")
    wanted = parser.parse_args()
    built = wanted.build or (build() if wanted.cuda else ROOT / "target/release")
    if wanted.out.exists():
        if any(wanted.out.iterdir()) and not (wanted.out / "payload.tar.xz").exists():
            sys.exit(f"`{wanted.out}` holds other things; name an empty folder with `--out`")
        shutil.rmtree(wanted.out)
    wanted.out.mkdir(parents=True)
    whole = payload(built, wanted.cuda, wanted.out / "payload.tar.xz")
    for file in BESIDE:
        shutil.copy(ROOT / file, wanted.out)
    size = sum(path.stat().st_size for path in wanted.out.iterdir())
    print(f"{wanted.out}: {size / 1e6:.1f} MB, {whole / 1e6:.0f} MB when unpacked")
    if size > MOST:
        sys.exit(f"that is more than {MOST / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
