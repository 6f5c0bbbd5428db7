"""One run directory: who and what, the numbers, the records."""

import json
import math
from pathlib import Path

from .json_hash import hash_json, loads


def runs(folder="runs"):
    """The runs in a folder, by name."""
    found = sorted(path.parent for path in Path(folder).glob("*/samples.jsonl"))
    return [Run(path) for path in found]


def own_score(record):
    """What the run's task said of a record: `status`, `values`, `answer`, `reason` and more. None until it has scored it."""
    return record.get("scores", {}).get(record.get("task"))


def value(record, metric, scorer=None):
    """One number of a record: the task's, or another scorer's. None where there is none."""
    score = own_score(record) if scorer is None else record.get("scores", {}).get(scorer)
    return None if score is None else score.get("values", {}).get(metric)


class Run:
    """A run directory, finished or not. Files are read when they are asked for; none is changed."""

    def __init__(self, path):
        self.path = Path(path)
        if not (self.path / "samples.jsonl").is_file():
            raise FileNotFoundError(f"`{self.path}` is not a run directory: it has no samples.jsonl")
        self._results = None

    def __repr__(self):
        return f"Run({str(self.path)!r})"

    @property
    def results(self):
        """`results.json` as a dict; empty while the run has never come to its end."""
        if self._results is None:
            file = self.path / "results.json"
            self._results = loads(file.read_text("utf-8")) if file.is_file() else {}
        return self._results

    @property
    def settings(self):
        """`run.toml` as a dict. Needs Python 3.11, or the package `tomli`."""
        try:
            import tomllib
        except ModuleNotFoundError:
            import tomli as tomllib
        return tomllib.loads((self.path / "run.toml").read_text("utf-8"))

    @property
    def model(self):
        return self.results.get("model_name", "")

    @property
    def task(self):
        return next(iter(self.results.get("versions", {})), "")

    @property
    def suspect(self):
        """Why the numbers should not be trusted; empty when nothing was noticed."""
        return self.results.get("host", {}).get("suspect", [])

    def metrics(self):
        """Every number as a dict of `metric`, `filter`, `group`, `value`, `stderr`, `low`, `high`, `n`: the whole first, then its groups."""
        task = self.task
        whole = self.results.get("results", {}).get(task, {})
        groups = self.results.get("breakdown", {}).get(task, {})
        return [*_metrics(whole, None), *(row for group, numbers in groups.items() for row in _metrics(numbers, group))]

    def records(self):
        """The records that count, one dict each, in the order of the data, with later scores laid over them."""
        places = {}
        with open(self.path / "samples.jsonl", "rb") as file:
            for place, line in _whole_lines(file):
                asked = json.loads(line)
                variant, parent = asked.get("variant"), asked.get("parent")
                places[asked["doc_id"], asked.get("chain", 0), variant or "", parent or ""] = place
            later = self._later()
            for _, place in sorted(places.items()):
                file.seek(place)
                yield _laid_over(loads(file.readline()), later)

    def rows(self):
        """Records as flat dicts, as a table has them: one column a metric, a group and a scorer's number."""
        for record in self.records():
            own = own_score(record) or {}
            error = record.get("error") or own.get("error")
            row = {
                "doc_id": record["doc_id"], "sample_id": record.get("sample_id"), "chain": record.get("chain", 0),
                "variant": record.get("variant"), "status": "failed" if error else own.get("status", record.get("status")),
                "input": record.get("input"), "target": record.get("target"), "answer": own.get("answer"),
                "reply": (record.get("reply") or {}).get("text"), "latency_ms": record.get("latency_ms"),
                "prompt_tokens": record.get("prompt_tokens"), "generated_tokens": record.get("generated_tokens"),
                "error": (error or {}).get("message"),
            }
            row.update(own.get("values", record.get("metrics", {})))
            row.update({f"group:{name}": member for name, member in record.get("groups", {}).items()})
            for name, score in record.get("scores", {}).items():
                if name != record.get("task"):
                    row.update({f"{name}:{metric}": number for metric, number in score.get("values", {}).items()})
            yield row

    def frame(self):
        """`rows` as a pandas DataFrame."""
        import pandas

        return pandas.DataFrame(list(self.rows()))

    def _later(self):
        """The last line that each scorer gave as it is now, by scorer and record: its place, or nothing."""
        file = self.path / "scores.jsonl"
        if not file.is_file():
            return {}
        host, task = self.results.get("host", {}), self.task
        known = {task: (host.get("identity", {}).get("task"), host.get("scorers", {}).get(task, {}))}
        for name, judge in host.get("judges", {}).items():
            known[f"judge:{name}" if name == task else name] = (judge.get("identity"), judge)
        known = {name: (hash_json(identity), _graders(scorer)) for name, (identity, scorer) in known.items()}
        later = {}
        with open(file, "rb") as lines:
            for _, line in _whole_lines(lines):
                line = loads(line)
                name, score = line.get("name"), line.get("score", {})
                if name not in known:
                    continue
                scorer, graders = known[name]
                asked = score.get("graders", {}).items()
                if score.get("scorer") == scorer and all(
                    role not in graders or graders[role] == grader.get("identity") for role, grader in asked
                ):
                    later.setdefault(line["key"], {})[name] = score
        return later


def _whole_lines(file):
    """Lines and their places; a torn last line is passed over."""
    place = 0
    for line in file:
        if not line.endswith(b"\n"):
            return
        yield place, line
        place += len(line)


def _laid_over(record, later):
    """The record with what was said of it later. A judge's word counts as long as it was shown the score that counts."""
    scores = later.get(record.get("key"), {})
    record.setdefault("scores", {})
    task = record.get("task")
    for name in sorted(scores, key=lambda name: name != task):
        own = own_score(record)
        shown = scores[name].get("shown")
        if shown is None or (own is not None and shown == _content(own)):
            record["scores"][name] = scores[name]
    return record


def _content(score):
    parts = [score.get("identity", ""), score.get("status", "scored"), score.get("values", {}), score.get("answer"), score.get("details", {})]
    return hash_json(parts)


def _graders(scorer):
    """The identity of the model in each role; a role that several models played is left open."""
    roles = scorer.get("graders", {}).items()
    return {role: models[0].get("identity", "") for role, models in roles if len(models) == 1}


def _metrics(numbers, group):
    for key, number in numbers.items():
        name, comma, kind = key.partition(",")
        if not comma or name.endswith(("_stderr", "_ci95", "_n")):
            continue

        def beside(what):
            found = numbers.get(f"{name}_{what},{kind}")
            return None if found == "N/A" else found

        low, high = beside("ci95") or (None, None)
        yield {
            "metric": name, "filter": kind, "group": group, "value": math.nan if number is None else number,
            "stderr": beside("stderr"), "low": low, "high": high, "n": beside("n"),
        }
