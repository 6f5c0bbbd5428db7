"""Reads a run's TensorBoard and W&B files back with the official packages, and compares them with metrics.jsonl.

    pip install tensorboard wandb
    python examples/read_trackers.py outputs/arc
"""

import json
import sys
from pathlib import Path


def main() -> None:
    out = Path(sys.argv[1])
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
    for folder in sorted((out / "tensorboard").glob("events.out.tfevents.*"))[:1]:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder.parent))
        events.Reload()
        read = {event.step: event.value for event in events.Scalars("train/loss")}
        assert read.keys() == losses.keys(), (read.keys(), losses.keys())
        assert all(abs(read[step] - losses[step]) < 1e-6 * max(1, abs(losses[step])) for step in losses)
        print(f"tensorboard: {len(read)} losses agree")
    for file in sorted((out / "wandb").glob("offline-run-*/run-*.wandb"))[:1]:
        from wandb.proto import wandb_internal_pb2
        from wandb.sdk.internal.datastore import DataStore

        store = DataStore()
        store.open_for_scan(str(file))
        read, kinds = {}, []
        while (data := store.scan_data()) is not None:
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            kinds.append(record.WhichOneof("record_type"))
            items = {item.key: json.loads(item.value_json) for item in record.history.item}
            if "train/loss" in items:
                read[items["train/global_step"]] = items["train/loss"]
        assert read == losses, (read, losses)
        assert kinds[:2] == ["header", "run"] and kinds[-1] == "exit", kinds
        print(f"wandb: {len(read)} losses agree, {len(kinds)} records")


if __name__ == "__main__":
    main()
