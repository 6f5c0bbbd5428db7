"""The work that is measured, and how; the same as in `host bench model`."""
import json
import time

PROMPT, ANSWER, BATCH, CHOICES, CHOICE_PROMPT, TIMES = 512, 64, 8, 16, 80, 3
# Hidden and inner width, layers, heads, key heads, head size, vocabulary, whether the head is tied; as `--shape` has them.
SHAPES = {
    "nano": (64, 128, 2, 4, 2, 16, 512, True),
    "qwen3-0.6b": (1024, 3072, 28, 16, 8, 128, 151_936, True),
    "qwen3-1.7b": (2048, 6144, 28, 16, 8, 128, 151_936, True),
    "qwen3-8b": (4096, 12_288, 36, 32, 8, 128, 151_936, False),
}
HIDDEN, INNER, LAYERS, HEADS, KEY_HEADS, HEAD_SIZE, VOCABULARY, _ = SHAPES["qwen3-0.6b"]


def rate(count, work, without=None):
    """So many things a second, and milliseconds of the processor each; what `without` takes is taken off."""

    def once(what):
        clock, processor = time.perf_counter(), time.process_time()
        what()
        return time.perf_counter() - clock, time.process_time() - processor

    def both():
        clock, processor = once(work)
        if without:
            less_clock, less_processor = once(without)
            clock, processor = clock - less_clock, processor - less_processor
        return clock, processor

    both()  # does not count
    clock, processor = sorted(both() for _ in range(TIMES))[TIMES // 2]
    return count / clock, processor * 1e3 / count


def told(name, kind, rates):
    figures = {"model": name, "precision": kind}
    for key, (per_second, milliseconds) in rates.items():
        figures[f"{key}_per_second"] = round(per_second, 3)
        figures[f"{key}_processor_ms"] = round(milliseconds, 3)
    print(json.dumps(figures))
