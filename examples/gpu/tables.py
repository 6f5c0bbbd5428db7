"""What `check.py` found, as Markdown for docs/gpu.md."""
import shapes

WORK = [
    ("prefill_tokens", "tokens read, of a prompt of 512"), ("decode_1_tokens", "tokens written, one answer"),
    ("decode_batch_tokens", "tokens written, eight answers"), ("choice_prompts", "prompts of 80 tokens scored"),
    ("heard_seconds", "seconds of sound heard"),
]
# As `host bench model` has them.
PROMPT, BATCH = 512, 8


def short(row):
    """A row in a few words, to be seen while the others run."""
    if "failed" in row:
        return f"FAILED: {row['failed']}"
    if "ok" in row:
        return "equal" if row["ok"] else f"DIFFERS: {row.get('wrong') or row}"
    for key, said in [("decode_1_tokens_per_second", "tokens/s written"), ("seconds_per_step", "s a step")]:
        if key in row:
            return f"{row[key]:.4g} {said}"
    return ", ".join(f"{key} {value}" for key, value in row.items() if isinstance(value, (str, int, float)) and key != "seconds") or "done"


def peak(found, key):
    """Of the card, as published or else as measured."""
    machine = found["card"].get("machine", {})
    published = machine.get("published") or {}
    measured = {"memory_gb_per_second": "copies_gb_per_second", "bf16_tflops": "bf16_tflops"}.get(key)
    return published.get(key) or machine.get(measured)


def shares(found, shape, kind, row):
    """Of each kind of work the share of what the card's memory or its products could give."""
    told = {}
    memory, products = peak(found, "memory_gb_per_second"), peak(found, f"{kind}_tflops")
    if shape not in shapes.SHAPES or "failed" in row:
        return told
    if memory:
        for key, answers in [("decode_1_tokens", 1), ("decode_batch_tokens", BATCH)]:
            steps = row[f"{key}_per_second"] / answers
            told[key] = steps * shapes.read_for_a_token(shape, kind) / 1e9 / memory
    if products:
        operations = shapes.operations_of_a_prompt(shape, PROMPT) / PROMPT
        told["prefill_tokens"] = row["prefill_tokens_per_second"] * operations / 1e12 / products
    return told


def number(value):
    return "–" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def percent(value):
    return "–" if value is None else f"{100 * value:.1f}%"


def table(columns, rows, left=1):
    lines = ["| " + " | ".join(columns) + " |", "|" + "--|" * left + "--:|" * (len(columns) - left)]
    return "\n".join(lines + ["| " + " | ".join(str(cell).replace("|", "/") for cell in row) + " |" for row in rows])


def of_card(found):
    machine = found["card"].get("machine", {"failed": "that was not begun"})
    if "failed" in machine:
        return f"The machine could not be asked: {machine['failed']}."
    said = [f"{machine.get('name')}, {machine.get('cores')} cores of a processor"]
    if machine.get("memory_bytes"):
        said.append(f"{machine['memory_bytes'] / 1e9:.0f} GB of memory, driver for CUDA {machine.get('driver_for_cuda')}")
    if machine.get("copies_gb_per_second"):
        said.append(f"copies {machine['copies_gb_per_second']:.0f} GB/s" + (f", products in bf16 {machine['bf16_tflops']:.0f} TFLOP/s" if machine.get("bf16_tflops") else "") + ", measured")
    if machine.get("published"):
        known = machine["published"]
        said.append(f"{known['memory_gb_per_second']} GB/s and {known['bf16_tflops']} TFLOP/s, {known['from']}")
    said += [f"{key.removesuffix('_failed')} not measured: {machine[key]}" for key in machine if key.endswith("_failed")]
    if machine.get("libraries_missing"):
        said.append(f"not there: {', '.join(machine['libraries_missing'])}")
    versions = [f"{name} {machine[name]}" for name in ("torch", "transformers", "peft") if machine.get(name)]
    return "; ".join(said + [", ".join(versions) or "no torch"]) + "."


def of_equal(found):
    rows = []
    for name, row in found["equal"].items():
        apart = ", ".join(f"{what} {value:.1e}" for what, value in row.get("largest", {}).items() if value)
        verdict = "failed" if "failed" in row else "yes" if row["ok"] else "**NO**"
        rows.append([name, verdict, row.get("compared", "–"), row.get("failed") or "; ".join(row["wrong"]) or apart])
    for name, row in found["runs"].items():
        verdict = "failed" if "failed" in row else "–" if "ok" not in row else "yes" if row["ok"] else "**NO**"
        said = row.get("failed") or (f"{row['apart']:.1e} from the processor; rounding alone {row['rounding']:.1e}" if "apart" in row else "what the others are held against")
        rows.append([f"a run of ARC, {name}", verdict, row.get("options", "–"), said])
    return table(["recorded of", "equal", "comparisons", "largest differences"], rows, left=2)


def of_speed(found):
    rows = []
    for name, row in found["speed"].items():
        if name.endswith(" transformers"):
            continue
        shape, kind = name.split(" ")
        other = found["speed"].get(f"{name} transformers", {})
        if "failed" in row:
            rows.append([name, row["failed"], "–", "–", "–", "–"])
            continue
        here, there = shares(found, shape, kind, row), shares(found, shape, kind, other) if other else {}
        for key, said in WORK:
            ours, theirs = row.get(f"{key}_per_second"), other.get(f"{key}_per_second")
            if ours is not None:
                ratio = f"{ours / theirs:.2f}" if theirs else "–"
                rows.append([f"{name}, {said}", number(ours), number(theirs), ratio, percent(here.get(key)), percent(there.get(key))])
        if "failed" in other:
            rows.append([f"{name} by transformers", other["failed"], "–", "–", "–", "–"])
    return table(["a second", "`host`", "transformers", "ratio", "share of the peak", "transformers' share"], rows)


def of_training(found):
    rows = []
    for name, row in found["training"].items():
        if name.endswith(" peft"):
            continue
        other = found["training"].get(f"{name} peft", {})
        rate = [None if "failed" in one or not one else one["tokens"] / one["seconds_per_step"] for one in (row, other)]
        ratio = f"{rate[0] / rate[1]:.2f}" if all(rate) else "–"
        rows.append([f"LoRA, {name} tokens, bf16", row.get("failed") or number(rate[0]), other.get("failed") or number(rate[1]), ratio])
    return table(["tokens a second", "`host`, on the processor", f"PEFT, on {'the card' if found['device'] == 'cuda' else 'the processor'}", "ratio"], rows)


def split(found):
    """Time of a token in what grows with the weights and what does not, by two shapes of as many layers."""
    small, large = (found["speed"].get(f"qwen3-{size} bf16", {}) for size in ("0.6b", "1.7b"))
    if not small.get("decode_1_tokens_per_second") or not large.get("decode_1_tokens_per_second"):
        return None
    bytes_of = [shapes.read_for_a_token(f"qwen3-{size}", "bf16") for size in ("0.6b", "1.7b")]
    seconds = [1 / one["decode_1_tokens_per_second"] for one in (small, large)]
    grows = (seconds[1] - seconds[0]) / (bytes_of[1] - bytes_of[0])
    fixed = seconds[0] - grows * bytes_of[0]
    return {"token_ms": 1e3 * seconds[0], "fixed_ms": 1e3 * fixed, "reading_ms": 1e3 * grows * bytes_of[0],
            "gb_per_second": 1e-9 / grows if grows > 0 else None}


def of_time(found):
    said = []
    parts = split(found)
    if parts:
        speed = f"as at {parts['gb_per_second']:.0f} GB/s" if parts["gb_per_second"] else "which did not grow with them"
        said.append(f"A token of qwen3-0.6b in bf16, one answer: {parts['token_ms']:.2f} ms, of which {parts['fixed_ms']:.2f} ms do not depend on how "
                    f"large the weights are (starting work, waiting, attention) and {parts['reading_ms']:.2f} ms do ({speed}); by qwen3-1.7b, "
                    "which has as many layers.")
    rows = []
    for name, row in found["speed"].items():
        if "failed" not in row:
            busy = row.get("watch") or {}
            cells = [row.get(f"{key}_processor_ms") for key in ("prefill_tokens", "decode_1_tokens", "decode_batch_tokens")]
            wall = 1e3 / row["decode_1_tokens_per_second"]
            rows.append([name, *map(number, cells), number(wall), *(number(busy.get(key)) for key in ("gpu_busy_percent", "memory_busy_percent", "memory_mb", "watts"))])
    columns = ["", "processor ms a token read", "written", "written, of eight", "ms of the clock, written", "card busy %", "its memory busy %", "MB", "W"]
    said.append(table(columns, rows))
    profile = found["card"].get("profile", {})
    said.append("\n".join(["```", *profile["kernels"], "```"]) if "kernels" in profile else f"Profiler: {profile.get('failed', 'not asked')}.")
    return "\n\n".join(said)


def markdown(found):
    packed = found["card"].get("packed", {})
    build = packed.get("build") or f"no build ({packed.get('failed', 'it says not which')})"
    head = f"Found by `examples/gpu/check.py --device {found['device']}` in {found.get('minutes', 0)} minutes, with {build}."
    parts = [head, of_card(found)]
    for title, key, write in [("Equal to what was recorded", "equal", of_equal), ("Speed", "speed", of_speed), ("Steps of training", "training", of_training)]:
        if found[key] or (key == "equal" and found["runs"]):
            parts += [f"## {title}", write(found)]
    if found["speed"]:
        parts += ["## Where the time goes", of_time(found)]
    return "\n\n".join(parts) + "\n"
