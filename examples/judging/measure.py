"""Measures what judging by a service costs beside the service itself: time, and memory by the number of records.

    host run --demo --model qwen3 --task arc -T mode=generate --out small     # any small finished run will do
    python examples/judging/measure.py small/RUN --host target/release/host

A server on this machine answers in OpenAI's dialect after a fixed time, so its own time for so many verdicts at so many
under way is known: `ceil(verdicts / under way)` answers one after the other. Every record has an answer of its own, since
equal questions are asked once. Needs nothing but Python's standard library.
"""

import argparse
import asyncio
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
from many_records import PLACE, enlarge

ANSWER = f"Answer {PLACE} of this run is A."
VERDICT = json.dumps({"reason": "by the rule", "score": 1})


class Books:
    """What the server saw."""

    def __init__(self) -> None:
        self.asked = self.under_way = self.most = 0
        self.first = self.last = None


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, books: Books, seconds: float) -> None:
    """One connection: a request, a pause, an answer, and again."""
    try:
        while line := await reader.readline():
            length = 0
            while (header := await reader.readline()).strip():
                name, _, value = header.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            await reader.readexactly(length)
            found = 200
            if line.startswith(b"GET /v1/models"):
                body = {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "nobody"}]}
            elif not line.startswith(b"POST /v1/chat/completions"):
                found, body = 404, {"error": {"message": "not found"}}
            else:
                books.asked += 1
                books.under_way += 1
                books.most = max(books.most, books.under_way)
                books.first = books.first or time.monotonic()
                if seconds:
                    await asyncio.sleep(seconds)
                books.under_way -= 1
                books.last = time.monotonic()
                message = {"role": "assistant", "content": VERDICT}
                body = {
                    "id": "1", "object": "chat.completion", "model": "m",
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 12, "completion_tokens": 8, "total_tokens": 20},
                }
            text = json.dumps(body).encode()
            head = f"HTTP/1.1 {found} X\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
            writer.write(head.encode() + text)
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


def serve(seconds: float) -> tuple[int, Books]:
    """Starts a server that takes so long for each answer."""
    books, port, ready = Books(), [], threading.Event()

    async def run() -> None:
        server = await asyncio.start_server(lambda r, w: answer(r, w, books, seconds), "127.0.0.1", 0, backlog=512)
        port.append(server.sockets[0].getsockname()[1])
        ready.set()
        await server.serve_forever()

    threading.Thread(target=lambda: asyncio.run(run()), daemon=True).start()
    ready.wait()
    return port[0], books


def judge(host: str, run: Path, port: int, under_way: int, more: list[str]) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and the peak in MiB of the command's largest process."""
    command = [
        host, "score", str(run), "--judge", "openai", "--quiet", "-M", f"openai:base_url=http://127.0.0.1:{port}",
        "-M", "openai:model=m", "-M", f"openai:concurrency={under_way}-{under_way}-{under_way}",
        "-M", "openai:stream=off", *more,
    ]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"OPENAI_API_KEY": "none"})
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    if status:
        sys.exit(f"the command ended with {status}: {' '.join(command)}")
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a small finished run of a task that `rubric` judges")
    parser.add_argument("--host", default="host", help="the program")
    parser.add_argument("--verdicts", type=int, default=1000)
    parser.add_argument("--under-way", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=1.0, help="the server's time for an answer")
    parser.add_argument("--records", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("more", nargs="*", help="further arguments of `host score`, after `--`")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.verdicts:
            run = enlarge(args.run, args.verdicts, Path(folder) / "time", ANSWER)
            port, books = serve(args.seconds)
            seconds, processor, _ = judge(args.host, run, port, args.under_way, args.more)
            own = math.ceil(args.verdicts / args.under_way) * args.seconds
            print(f"{args.verdicts} verdicts, {books.most} under way at most: the server's own time {own:.1f} s")
            print(f"  first request to last answer {books.last - books.first:.2f} s, x{(books.last - books.first) / own:.3f}")
            print(f"  whole command {seconds:.2f} s, x{seconds / own:.3f}; {processor:.1f} s of processor time")
        for count in args.records:
            run = enlarge(args.run, count, Path(folder) / str(count), ANSWER)
            port, books = serve(0.0)
            seconds, processor, peak = judge(args.host, run, port, args.under_way, args.more)
            print(f"{count} records judged by {books.asked} calls: peak {peak:.0f} MiB, {seconds:.1f} s, {processor:.1f} s of processor time")
            again, _, peak = judge(args.host, run, port, args.under_way, args.more)
            print(f"  the same command again, {books.asked - count} calls more: peak {peak:.0f} MiB, {again:.1f} s")


if __name__ == "__main__":
    main()
