"""Makes ARC-Easy-Train.jsonl and ARC-Easy-Test.jsonl of this folder. Standard library only.

The questions are simple and alike, so that a model of 130,000 parameters learns them in seconds: of four words, which names
an animal? No test question has the four words of one to learn from, and every word of the test is among those.
"""
import json
import random
from pathlib import Path

KINDS = {
    "animal": ["horse", "frog", "eagle", "spider", "goat", "snail", "trout", "bat"],
    "plant": ["oak", "fern", "moss", "wheat", "tulip", "clover", "pine", "rose"],
    "metal": ["iron", "copper", "gold", "zinc", "nickel", "silver", "lead", "tin"],
    "tool": ["hammer", "ruler", "drill", "knife", "spade", "lens", "rake", "saw"],
}
ASKED = ["Which of these is an animal?", "Which word names an animal?"]
TRAIN, TEST = 160, 10


def main() -> None:
    draw = random.Random(7)
    seen, rows = set(), []
    while len(rows) < TRAIN + TEST:
        words = {kind: draw.choice(names) for kind, names in KINDS.items()}
        if tuple(words.values()) in seen:
            continue
        seen.add(tuple(words.values()))
        others = [word for kind, word in words.items() if kind != "animal"]
        draw.shuffle(others)
        place = len(rows) % 4  # each letter is right as often as any other
        others.insert(place, words["animal"])
        rows.append((draw.choice(ASKED), others, "ABCD"[place]))
    for name, part, first in (("Train", "train-", 0), ("Test", "", TRAIN)):
        last = TRAIN if first == 0 else TRAIN + TEST
        with (Path(__file__).parent / f"ARC-Easy-{name}.jsonl").open("w") as out:
            for number, (asked, texts, right) in enumerate(rows[first:last], 1):
                choices = {"text": texts, "label": ["A", "B", "C", "D"]}
                row = {"id": f"demo-easy-{part}{number}", "question": asked, "choices": choices, "answerKey": right}
                out.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
