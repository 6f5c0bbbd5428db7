"""Reads a run's TensorBoard and W&B files back with the official packages, and compares them with metrics.jsonl.

    pip install tensorboard wandb
    python examples/read_trackers.py outputs/arc
"""

import json
import struct
import sys
import zlib
from pathlib import Path


def records(data: bytes):
    """The records of a W&B file: blocks of 32,768 bytes, each record in one piece or several."""
    assert data[:7] == b":W&B\xe1\xbe\x00", data[:7]
    at, whole = 7, b""
    while at < len(data):
        room = 32768 - at % 32768
        if room < 7:
            at += room
            continue
        crc, length, kind = struct.unpack_from("<IHB", data, at)
        part = data[at + 7 : at + 7 + length]
        assert zlib.crc32(bytes([kind]) + part) == crc
        whole, at = whole + part, at + 7 + length
        if kind in (1, 4):
            yield whole
            whole = b""


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

        read, kinds = {}, []
        for data in records(file.read_bytes()):
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
