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
from pathlib import Path

# What stands in a record in the place of its number and its key until it is written.
PLACE, KEY = "\0place", "\0key"


def enlarge(small: Path, count: int, out: Path, answer: str | None = None) -> Path:
    """Writes a run of so many records into a folder of `out`; with an `answer` that holds PLACE, each has one of its own."""
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
    records = [json.loads(line) for line in (small / "samples.jsonl").read_text().splitlines()]
    lines = [as_pattern(record, answer) for record in records if record.get("reply")]
    with open(large / "samples.jsonl", "w", encoding="utf-8") as file:
        for number in range(count):
            place = number * shards + index
            key = hashlib.sha256(f"{small.name} {place}".encode()).hexdigest()
            file.write(lines[number % len(lines)] % {"place": place, "key": key})
    return large


def as_pattern(record: dict, answer: str | None) -> str:
    """A record's line, for the operator % to fill: a JSON text a record would take most of the time."""
    record.update(doc_id=PLACE, sample_id=f"number-{PLACE}", key=KEY)
    if answer is not None:
        record["reply"]["text"] = answer
    line = json.dumps(record, ensure_ascii=False, separators=(",", ":")).replace("%", "%%") + "\n"
    place, key = json.dumps(PLACE), json.dumps(KEY)
    line = line.replace(place, "%(place)d").replace(place[1:-1], "%(place)d")
    return line.replace(key[1:-1], "%(key)s")


def main() -> None:
    small, count, out = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    large = enlarge(small, count, out)
    print(large, (large / "samples.jsonl").stat().st_size // count, "bytes a record")


if __name__ == "__main__":
    main()
