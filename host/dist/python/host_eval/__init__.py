"""Reads what `host` writes: runs, their records, results and comparisons, as plain Python.

    import host_eval

    for run in host_eval.runs("runs"):
        print(run.model, run.task, run.results["results"][run.task])
    run = host_eval.Run("runs/qwen3-arc-1a2b3c4d")
    wrong = [record["sample_id"] for record in run.records() if host_eval.value(record, "acc") == 0.0]
    table = run.frame()                                  # a pandas DataFrame, if pandas is there
    host_eval.compare("runs/base-arc-…", "runs/tuned-arc-…")["rows"]

Nothing here changes a run, and nothing but `compare` needs the program. What the fields mean stands in the page on file formats.
"""

from .comparison import compare, program
from .run import Run, own_score, runs, value

__all__ = ["Run", "compare", "own_score", "program", "runs", "value"]
