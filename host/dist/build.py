#!/usr/bin/env python3
"""Packs a finished build as a tarball that runs from any folder, and as a Python wheel.

    cargo build --release
    python3 host/dist/build.py                                  # target/release, packed into dist/
    python3 host/dist/build.py --build target/debug --strip     # another build

Needs Python 3.11, `cargo` (whose metadata names the dependencies) and binutils. Nothing is compiled here.
"""

import argparse
import base64
import gzip
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
# Every packed file has this time, so that the same build gives the same bytes.
EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", 315_532_800))  # 1980-01-01, the first day that a zip file knows
# What every Linux with glibc has, so that a wheel may stand on it (PEP 600).
EVERYWHERE = {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libstdc++.so.6"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, default=ROOT / "target/release", help="the folder with `host` and the plugins")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder that receives both files")
    parser.add_argument("--strip", action="store_true", help="leave debugging symbols out, which release builds do by themselves")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        files = collect(args.build, Path(scratch), args.strip)
        binaries = [path for name, path in files.items() if name == "bin/host" or name.endswith(".so")]
        version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
        glibc = least_glibc(binaries)
        args.out.mkdir(parents=True, exist_ok=True)
        for made in [tarball(files, args.out, version), wheel(files, args.out, version, glibc)]:
            print(f"{made} ({made.stat().st_size / 1e6:.1f} MB)")
        print(f"needs glibc {glibc[0]}.{glibc[1]} or newer on {platform.machine()}")


def collect(build: Path, scratch: Path, strip: bool) -> dict[str, Path]:
    """Every file of an installation, by its place below the prefix."""
    program = build / "host"
    if not program.is_file():
        sys.exit(f"there is no `{program}`: run `cargo build --release` first, or name a build with `--build`")
    text = (ROOT / "registry.toml").read_text()
    registry = tomllib.loads(text)
    files = {"bin/host": program}
    for name, plugin in registry["plugins"].items():
        library = plugin["path"].removeprefix("{exe}/")
        if not (build / library).is_file():
            sys.exit(f"plugin `{name}` was not built: there is no `{build / library}`")
        files[f"lib/host/{library}"] = build / library
    if strip:
        for place, path in files.items():
            bare = scratch / path.name
            subprocess.run(["strip", "--strip-debug", "-o", bare, path], check=True)
            files[place] = bare
    # Paths in a registry start from its own folder.
    installed = scratch / "registry.toml"
    installed.write_text(text.replace('"{exe}/', '"../../lib/host/'))
    files["share/host/registry.toml"] = installed
    for folder in demo_folders(registry):
        files |= {f"share/host/{path.relative_to(ROOT)}": path for path in sorted(folder.rglob("*")) if path.is_file()}

    def said(*words: str) -> bytes:
        return subprocess.run([program, *words], check=True, stdout=subprocess.PIPE).stdout

    for shell, place in {
        "bash": "share/bash-completion/completions/host",
        "zsh": "share/zsh/site-functions/_host",
        "fish": "share/fish/vendor_completions.d/host.fish",
    }.items():
        files[place] = scratch / f"completions.{shell}"
        files[place].write_bytes(said("completions", shell))
    said("man", "--dir", str(scratch / "man"))
    files |= {f"share/man/man1/{page.name}": page for page in sorted((scratch / "man").iterdir())}
    licences = scratch / "licences.txt"
    licences.write_text(licences_of_dependencies())
    files["share/doc/host/licences.txt"] = licences
    files["share/doc/host/LICENSE"] = ROOT / "LICENSE"
    files["share/doc/host/CHANGELOG.md"] = ROOT / "host/CHANGELOG.md"
    return files


def demo_folders(registry: dict) -> set[Path]:
    """The toy weights and samples that the registry names."""
    entries = [entry.get("demo", {}) for kind in ("models", "tasks", "judges") for entry in registry.get(kind, {}).values()]
    paths = [ROOT / value for demo in entries for value in demo.values() if isinstance(value, str)]
    return {path for path in paths if path.is_dir()}


def licences_of_dependencies() -> str:
    """The licence texts of all crates that are linked, each text once, below the names of the crates that have it."""
    machine = f"{platform.machine()}-unknown-linux-gnu"
    words = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", machine]
    metadata = json.loads(subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    links = {node["id"]: node["deps"] for node in metadata["resolve"]["nodes"]}
    waiting, linked = list(metadata["workspace_default_members"]), set()
    while waiting:
        package = waiting.pop()
        if package not in linked:
            linked.add(package)
            waiting += [link["pkg"] for link in links[package] if any(kind["kind"] is None for kind in link["dep_kinds"])]
    texts: dict[str, list[str]] = {}
    names = []
    for package in sorted((packages[id] for id in linked), key=lambda package: (package["name"], package["version"])):
        if package["source"] is None:
            continue  # ours
        name = f"{package['name']} {package['version']}"
        names.append(f"{name}: {package['license'] or package['license_file']}, {package['repository'] or ''}")
        # A crate may bring the C code of another project along, with a licence further down.
        for path in sorted(Path(package["manifest_path"]).parent.rglob("*")):
            if path.is_file() and re.match(r"(?i)(licen[cs]e|copying|notice|unlicense)", path.name) and path.suffix != ".rs":
                texts.setdefault(path.read_text(errors="replace").strip(), []).append(name)
    parts = ["`host` is linked with these crates, and with Rust's standard library (MIT OR Apache-2.0).\n", "\n".join(names)]
    for text, having in texts.items():
        parts.append(f"{'-' * 100}\n{', '.join(dict.fromkeys(having))}\n\n{text}")
    return "\n\n".join(parts) + "\n"


def least_glibc(binaries: list[Path]) -> tuple[int, int]:
    """The oldest glibc that has every symbol that these files ask for."""
    versions = set()
    for path in binaries:
        said = subprocess.run(["objdump", "-p", path], check=True, stdout=subprocess.PIPE, text=True).stdout
        versions |= {(int(a), int(b)) for a, b in re.findall(r"\bGLIBC_(\d+)\.(\d+)", said)}
        strange = {name for name in re.findall(r"NEEDED\s+(\S+)", said) if not name.startswith("ld-linux")} - EVERYWHERE
        if strange:
            sys.exit(f"`{path}` needs {', '.join(sorted(strange))}, which not every machine has")
    return max(versions)


def mode_of(place: str) -> int:
    return 0o755 if place.startswith("bin/") else 0o644


def tarball(files: dict[str, Path], out: Path, version: str) -> Path:
    name = f"host-{version}-{platform.machine()}-linux-gnu"
    made = out / f"{name}.tar.gz"

    def plain(entry: tarfile.TarInfo, mode: int) -> tarfile.TarInfo:
        entry.mode, entry.mtime = mode, EPOCH
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        return entry

    with open(made, "wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=EPOCH) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        folders = sorted({str(parent) for place in files for parent in Path(place).parents})
        for folder in folders:
            entry = plain(tarfile.TarInfo(f"{name}/{folder}".removesuffix("/.")), 0o755)
            entry.type = tarfile.DIRTYPE
            archive.addfile(entry)
        for place, path in sorted(files.items()):
            entry = plain(tarfile.TarInfo(f"{name}/{place}"), mode_of(place))
            entry.size = path.stat().st_size
            with open(path, "rb") as content:
                archive.addfile(entry, content)
    return made


def wheel(files: dict[str, Path], out: Path, version: str, glibc: tuple[int, int]) -> Path:
    tag = f"py3-none-manylinux_{glibc[0]}_{glibc[1]}_{platform.machine()}"
    about, data = f"host_eval-{version}.dist-info", f"host_eval-{version}.data"
    made = out / f"host_eval-{version}-{tag}.whl"
    package = {f"host_eval/{path.name}": path for path in sorted((HERE / "python/host_eval").glob("*.py"))}
    # `scripts` go where Python's own programs are, `data` below its prefix: an installation as any other.
    program = {f"{data}/scripts/host": files["bin/host"]}
    rest = {f"{data}/data/{place}": path for place, path in files.items() if place != "bin/host"}
    texts = {
        f"{about}/METADATA": METADATA.format(version=version) + (HERE / "python/README.md").read_text(),
        f"{about}/WHEEL": f"Wheel-Version: 1.0\nGenerator: host/dist/build.py\nRoot-Is-Purelib: false\nTag: {tag}\n",
    }
    record = []
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for place, content in {**package, **program, **rest, **texts}.items():
            if isinstance(content, Path):
                content = content.read_bytes()
            else:
                content = content.encode()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append(f"{place},sha256={digest},{len(content)}")
            archive.writestr(entry(place, 0o755 if place in program else 0o644), content)
        lines = "\n".join([*record, f"{about}/RECORD,,"]) + "\n"
        archive.writestr(entry(f"{about}/RECORD", 0o644), lines)
    return made


def entry(place: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(place, (1980, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (0o100000 | mode) << 16
    return info


METADATA = """Metadata-Version: 2.1
Name: host-eval
Version: {version}
Summary: Evaluates, probes and fine-tunes audio and text language models on benchmarks
License: MIT
Requires-Python: >=3.9
Provides-Extra: pandas
Requires-Dist: pandas; extra == "pandas"
Description-Content-Type: text/markdown

"""

if __name__ == "__main__":
    main()
