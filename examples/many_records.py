"""Makes a large run out of a small one, to see what memory and time `host` takes for so many records.

    host run --model echo --task count -T n=1000 --out small       # any small finished run will do
    python examples/many_records.py small/RUN 1000000 large
    command time -v host report large/RUN

Records are the small run's answered ones, over and over, each with a key and an id of its own; the files beside them say
the new number. A shard becomes a shard of a run that is as much larger, so `host join` can be measured too.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path


def enlarge(small: Path, count: int, out: Path, change: Callable[[dict, int], None] = lambda record, number: None) -> Path:
    """Writes a run of so many records into a folder of `out`; `change` is given each record with its number."""
    large = out / small.name
    large.mkdir(parents=True)
    for name in ["run.toml", "timing.json"]:
        shutil.copy(small / name, large / name)
    results = json.loads((small / "results.json").read_text())
    for counts in results["n-samples"].values():
        counts.update(original=count, effective=count)
    results["host"]["counts"].update(finished=count, answered=count)
    index, shards = 0, 1
    if results["host"].get("shard"):
        index, shards = map(int, results["host"]["shard"]["shard"].split("/"))
        results["host"]["shard"]["selected"] = count * shards
    (large / "results.json").write_text(json.dumps(results))
    lines = [json.loads(line) for line in (small / "samples.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line.get("reply")]
    with open(large / "samples.jsonl", "w", encoding="utf-8") as file:
        for number in range(count):
            record = lines[number % len(lines)]
            place = number * shards + index
            record["doc_id"], record["sample_id"] = place, f"number-{place}"
            record["key"] = hashlib.sha256(f"{small.name} {place}".encode()).hexdigest()
            change(record, number)
            file.write(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n")
    return large


def main() -> None:
    small, count, out = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    large = enlarge(small, count, out)
    print(large, (large / "samples.jsonl").stat().st_size // count, "bytes a record")


if __name__ == "__main__":
    main()
