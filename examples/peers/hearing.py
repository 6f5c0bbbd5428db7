"""python hearing.py [LAYERS]: what a clip becomes before a language model reads it, by `host` and by transformers in turns."""
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
OURS = os.environ.get("HEARING", os.path.join(HERE, "../../target/release/examples/hearing"))
TIMES = int(os.environ.get("TIMES", "5"))
PAUSE = 0.05  # threads that torch has kept spin on for a while after their work, which would take a core from the next
LAYERS = sys.argv[1] if len(sys.argv) > 1 else "32"
# what, type, seconds of a clip, clips, and how often in a row: what takes milliseconds is another thing after a rest
WORK = [
    ("features128", "fp32", 30, 1, 1),
    ("features80", "fp32", 30, 1, 1),
    ("features128", "fp32", 30, 1, 20),
    ("features80", "fp32", 30, 1, 20),
    ("features128", "fp32", 30, 4, 20),
    ("features128", "fp32", 5, 4, 20),
    ("encoder", "fp32", 30, 1, 1),
    ("encoder", "fp32", 30, 4, 1),
    ("encoder", "bf16", 30, 1, 1),
    ("encoder", "bf16", 30, 4, 1),
    ("encoder", "bf16", 5, 1, 1),
    ("chunks", "fp32", 30, 1, 1),
    ("chunks", "bf16", 30, 1, 1),
]
if len(sys.argv) > 2:
    WORK = [work for work in WORK if work[0] in sys.argv[2:] or f"{work[0]}-{work[1]}" in sys.argv[2:]]


class Peer:
    def __init__(self, command, work):
        command = command + [str(word) for word in work] + [LAYERS]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE)
        assert self.process.stdout.readline().strip() == "ready", f"{command} did not start"

    def work(self, times):
        self.process.stdin.write(f"{times}\n")
        self.process.stdin.flush()
        return tuple(map(float, self.process.stdout.readline().split()))

    def end(self):
        self.process.stdin.close()
        self.process.wait()


print(f"{'':40} {'host':>20} {'transformers':>20} {'ratio':>17}")
for *work, in_a_row in WORK:
    what, dtype, seconds, clips = work
    peers = [Peer([OURS], work), Peer([sys.executable, os.path.join(HERE, "hearing_transformers.py")], work)]
    times = [[] for _ in peers]
    for _ in range(TIMES):
        for peer, found in zip(peers, times):
            time.sleep(PAUSE)
            found.append(peer.work(in_a_row))
    for peer in peers:
        peer.end()
    ours, theirs = ([statistics.median(column) * 1e3 for column in zip(*found)] for found in times)
    name = f"{what} {dtype}, {clips} x {seconds} s{', in a row' if in_a_row > 1 else ''}"
    print(
        f"{name:40} {ours[0]:8.1f} {ours[1]:8.1f} ms {theirs[0]:8.1f} "
        f"{theirs[1]:8.1f} ms {theirs[0] / ours[0]:7.2f} {theirs[1] / ours[1]:7.2f} x",
        flush=True,
    )
