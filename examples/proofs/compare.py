"""python compare.py OURS PEFT [--picture FILE.svg] [--title TEXT]

Holds the `metrics.jsonl` of `host train` against that of with_peft.py, step by step, and draws both curves."""
import argparse
import json

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("ours", help="the folder that `host train --out` names")
parser.add_argument("peft", help="the folder that with_peft.py wrote")
parser.add_argument("--picture")
parser.add_argument("--title", default="loss of each step")
wanted = parser.parse_args()


def losses(folder):
    lines = [json.loads(line) for line in open(f"{folder}/metrics.jsonl")]
    return {line["step"]: line for line in lines if line["type"] == "train" and "loss" in line}


def picture(ours, peft, title):
    """Two curves in one frame: ours as a line, PEFT's as circles around its points."""
    width, height, left, top = 640, 300, 48, 34
    steps, most = max(ours), max(max(ours.values()), max(peft.values())) * 1.05
    x = lambda step: left + (width - left - 16) * (step - 1) / max(steps - 1, 1)
    y = lambda loss: top + (height - top - 36) * (1 - loss / most)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/><text x="{left}" y="18" font-size="14">{title}</text>',
    ]
    unit = next(unit for unit in (0.05, 0.1, 0.2, 0.5, 1, 2, 5) if most / unit <= 8)
    for number in range(int(most / unit) + 1):
        at = y(number * unit)
        parts.append(f'<path d="M{left} {at:.1f}H{width - 16}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end" fill="#555">{number * unit:g}</text>')
    for step in sorted({1, *range(0, steps + 1, max(1, steps // 8))} - {0}):
        parts.append(f'<text x="{x(step):.1f}" y="{height - 16}" text-anchor="middle" fill="#555">{step}</text>')
    line = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in sorted(ours.items()))
    parts.append(f'<polyline points="{line}" fill="none" stroke="#1f6feb" stroke-width="2"/>')
    for step, loss in sorted(peft.items()):
        parts.append(f'<circle cx="{x(step):.1f}" cy="{y(loss):.1f}" r="4" fill="none" stroke="#c2410c" stroke-width="1.5"/>')
    key = width - 190
    parts.append(f'<path d="M{key} 14h24" stroke="#1f6feb" stroke-width="2"/><text x="{key + 30}" y="18">host train</text>')
    parts.append(f'<circle cx="{key + 112}" cy="14" r="4" fill="none" stroke="#c2410c" stroke-width="1.5"/>')
    parts.append(f'<text x="{key + 122}" y="18">PEFT</text></svg>')
    return "\n".join(parts) + "\n"


ours, peft = losses(wanted.ours), losses(wanted.peft)
shared = sorted(ours.keys() & peft.keys())
for name in ("loss", "grad_norm", "learning_rate"):
    apart = [abs(ours[step][name] - peft[step][name]) for step in shared]
    print(f"{name}: {len(shared)} steps, at most {max(apart):.2e} apart")
if wanted.picture:
    curves = [{step: line["loss"] for step, line in lines.items()} for lines in (ours, peft)]
    open(wanted.picture, "w").write(picture(*curves, wanted.title))
