"""Opens what `host` wrote for other tools with those tools themselves, and compares it with the run.

    pip install inspect_ai lm_eval tensorboard wandb
    host run --demo --model qwen3 --task arc --report-to tensorboard,wandb
    host export runs/RUN --format inspect
    host export runs/RUN --format lm-eval
    python examples/read_exports.py runs/RUN
"""

import json
import sys
from pathlib import Path

from read_trackers import records


def main() -> None:
    run = Path(sys.argv[1])
    results = json.loads((run / "results.json").read_text())
    [task] = results["results"]
    numbers = results["results"][task]
    metric = next(key for key in numbers if key.endswith(f"_n,{key.partition(',')[2]}")).replace("_n,", ",")
    name, expected, count = metric.split(",")[0], numbers[metric], results["host"]["counts"]["finished"]
    if (run / "export/inspect").is_dir():
        inspect(run / "export/inspect", task, name, expected, count)
    if (run / "export/lm-eval").is_dir():
        lm_eval(run / "export/lm-eval", task, metric, expected)
    for file in sorted((run / "tensorboard").glob("events.out.tfevents.*"))[:1]:
        tensorboard(file, f"{task}/{name}", expected)
    for file in sorted((run / "wandb").glob("offline-run-*/run-*.wandb"))[-1:]:
        wandb(file, f"{task}/{name}", expected)


def inspect(folder: Path, task: str, name: str, expected: float, count: int) -> None:
    from inspect_ai.log import list_eval_logs, read_eval_log

    [listed] = list_eval_logs(str(folder))
    log = read_eval_log(listed)
    assert log.status == "success" and log.eval.task == task and len(log.samples) == count, log.eval
    [own] = [scores for scores in log.results.scores if scores.name == task]
    assert own.metrics[name].value == expected, own
    scored = [sample.scores[task].as_float() if not isinstance(sample.scores[task].value, dict) else sample.scores[task].value[name]
              for sample in log.samples if sample.scores]
    assert abs(sum(scored) / len(scored) - expected) < 1e-9, scored
    assert read_eval_log(listed, header_only=True).eval.model == log.eval.model
    first = log.samples[0]
    print(f"inspect: {count} samples, {name} {expected:.4f}; the first: {first.messages[-1].role} said {first.output.completion[:40]!r}")


def lm_eval(folder: Path, task: str, metric: str, expected: float) -> None:
    from lm_eval.utils import make_table

    results = json.loads((folder / "results.json").read_text())
    table = make_table(results)
    cells = [cell.strip() for cell in table.replace("\n", "|").split("|")]
    assert task in table and {f"{expected:.4f}", f"{round(expected, 4)}"} & set(cells), table
    lines = (folder / f"samples_{task}.jsonl").read_text().splitlines()
    values = [json.loads(line)[metric.split(",")[0]] for line in lines]
    assert abs(sum(values) / len(values) - expected) < 1e-9
    print(f"lm-eval: {len(lines)} samples, and its table:\n{table}")


def tensorboard(file: Path, tag: str, expected: float) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(file.parent))
    events.Reload()
    [event] = events.Scalars(tag)
    assert abs(event.value - expected) < 1e-6 * max(1.0, abs(expected)), event
    print(f"tensorboard: {tag} {event.value:.4f}, {len(events.Tags()['scalars'])} tags")


def wandb(file: Path, key: str, expected: float) -> None:
    from wandb.proto import wandb_internal_pb2

    kinds = []
    for data in records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        kinds.append(record.WhichOneof("record_type"))
        for items in (record.history.item, record.summary.update):
            values = {item.key: json.loads(item.value_json) for item in items}
            assert not values or values[key] == expected, values
    assert kinds[:2] == ["header", "run"] and kinds[-1] == "exit", kinds
    print(f"wandb: {key} {expected:.4f}, {len(kinds)} records")


if __name__ == "__main__":
    main()
