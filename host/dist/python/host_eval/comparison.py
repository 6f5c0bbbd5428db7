"""Runs against each other. The program computes; the statistics stand in one place."""

import importlib.metadata
import json
import os
import subprocess
from pathlib import Path


def program():
    """The `host` of this installation. `HOST_PROGRAM` names another one."""
    named = os.environ.get("HOST_PROGRAM")
    if named:
        return Path(named)
    try:
        files = importlib.metadata.files("host-eval") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "host" and file.parent.name in ("bin", "scripts"):
            return Path(file.locate()).resolve()
    # There may be a `host` on the PATH that asks name servers, so the PATH is not searched.
    raise FileNotFoundError("the program `host` is not part of this installation: name it in HOST_PROGRAM")


def compare(first, *others, across=()):
    """What `host compare --json` says of runs over the same samples: a dict for two runs, a list of dicts for more.

    `across` names what may differ: task, task-version, data, scorer, prompts, judges.
    """
    words = [program(), "compare", "--json", "--quiet", *map(_path, [first, *others])]
    if across:
        words += ["--across", ",".join(across)]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode != 0:
        raise ValueError(done.stderr.strip() or f"`host compare` ended with {done.returncode}")
    found = json.loads(done.stdout)
    return found.get("comparisons", found)


def _path(run):
    return getattr(run, "path", run)
