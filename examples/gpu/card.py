"""What a GPU is and what it can do, asked of its driver: name, memory, speed of copies and of products. Standard library only."""
import ctypes
import glob
import json
import os
import random
import site
import subprocess
import sys
import time
from array import array
from pathlib import Path

# What makers publish: memory in GB/s, products of bf16 (dense) and of fp32 (without tensor cores) in TFLOP/s.
# A name must begin with all words of an entry's; the first entry that fits counts.
PUBLISHED = [
    ("B200", 8000, 2250, 75), ("H200", 4800, 989, 67), ("H100 PCIe", 2000, 756, 51), ("H100 NVL", 3900, 835, 60),
    ("H100", 3350, 989, 67), ("A100 80GB PCIe", 1935, 312, 19.5), ("A100 PCIe 40GB", 1555, 312, 19.5),
    ("A100 SXM4 40GB", 1555, 312, 19.5), ("A100", 2039, 312, 19.5), ("L40S", 864, 362, 91.6), ("L4", 300, 121, 30.3),
    ("A10", 600, 125, 31.2), ("RTX 4090", 1008, 165, 82.6), ("RTX 3090", 936, 71, 35.6), ("T4", 320, None, 8.1),
]
# What a plugin with the feature `cuda` is linked to.
LIBRARIES = ["libcuda.so.1", "libcublas.so.13", "libcurand.so.10", "libcudart.so.13"]
GB = 10**9


def published(name):
    """Peaks of the card of this name as its maker tells them."""
    words = set(name.replace("-", " ").split())
    for entry, memory, bf16, fp32 in PUBLISHED:
        if set(entry.split()) <= words:
            return {"memory_gb_per_second": memory, "bf16_tflops": bf16, "fp32_tflops": fp32, "from": f"published for {entry}"}
    return None


def library_folders():
    """Folders of the libraries that the linker does not find by itself, and the names of those that are nowhere."""
    folders, missing = [], []
    here = [*site.getsitepackages(), *sys.path]
    packages = [place for path in here for place in glob.glob(f"{path}/nvidia/*/lib")]
    usual = packages + glob.glob("/usr/local/cuda*/lib64") + glob.glob("/usr/local/cuda*/targets/*/lib") + ["/usr/local/nvidia/lib64"]
    for name in LIBRARIES:
        try:
            ctypes.CDLL(name)
            continue
        except OSError:
            pass
        found = [folder for folder in usual if os.path.exists(f"{folder}/{name}")]
        if not found:
            found = [str(path.parent) for root in ("/usr/local", "/opt") for path in Path(root).rglob(name)]
        if found:
            folders.append(found[0])
        else:
            missing.append(name)
    return list(dict.fromkeys(folders)), missing


def check(status, what):
    if status != 0:
        raise OSError(f"{what} answered {status}")


class Card:
    """The first GPU, by the driver's own interface."""

    def __init__(self):
        self.driver = ctypes.CDLL("libcuda.so.1")
        self.call("cuInit", ctypes.c_uint(0))
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self.call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
        self.device = device
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.call("cuCtxSetCurrent", context)

    def call(self, name, *arguments):
        check(getattr(self.driver, name)(*arguments), name)

    def facts(self):
        name, total, version = ctypes.create_string_buffer(256), ctypes.c_size_t(), ctypes.c_int()
        self.call("cuDeviceGetName", name, ctypes.c_int(256), self.device)
        self.call("cuDeviceTotalMem_v2", ctypes.byref(total), self.device)
        self.call("cuDriverGetVersion", ctypes.byref(version))
        major, minor = version.value // 1000, version.value % 1000 // 10
        return {"name": name.value.decode(), "memory_bytes": total.value, "driver_for_cuda": f"{major}.{minor}"}

    def room(self, size):
        pointer = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size))
        return pointer

    def give_back(self, *pointers):
        for pointer in pointers:
            self.call("cuMemFree_v2", pointer)

    def seconds(self, work, times):
        """The shortest of several rounds, for one piece of work."""
        work()
        self.call("cuCtxSynchronize")
        rounds = []
        for _ in range(5):
            began = time.perf_counter()
            for _ in range(times):
                work()
            self.call("cuCtxSynchronize")
            rounds.append((time.perf_counter() - began) / times)
        return min(rounds)

    def copies(self, size=1 << 30):
        """GB/s of a copy within the card's memory: what is read and what is written."""
        one, other = self.room(size), self.room(size)
        seconds = self.seconds(lambda: self.call("cuMemcpyDtoDAsync_v2", other, one, ctypes.c_size_t(size), None), 20)
        self.give_back(one, other)
        return 2 * size / seconds / GB

    def products(self, folders, size=8192):
        """TFLOP/s of cuBLAS with square matrices of bf16, summed in fp32."""
        name = "libcublas.so.13"
        place = next((f"{folder}/{name}" for folder in folders if os.path.exists(f"{folder}/{name}")), name)
        cublas, handle = ctypes.CDLL(place), ctypes.c_void_p()
        check(cublas.cublasCreate_v2(ctypes.byref(handle)), "cublasCreate")
        room = [self.room(2 * size * size) for _ in range(3)]
        # Zeros would take less power, and so be faster than what models multiply.
        values = bf16([random.gauss(0, 1) for _ in range(1 << 16)]) * (2 * size * size >> 17)
        for matrix in room[:2]:
            self.call("cuMemcpyHtoD_v2", matrix, values, ctypes.c_size_t(len(values)))
        a, b, c = (ctypes.c_void_p(matrix.value) for matrix in room)
        one, zero, edge = ctypes.c_float(1), ctypes.c_float(0), ctypes.c_int(size)
        plain, kind, in_fp32, any_way = ctypes.c_int(0), ctypes.c_int(14), ctypes.c_int(68), ctypes.c_int(-1)

        def multiply():
            check(cublas.cublasGemmEx(handle, plain, plain, edge, edge, edge, ctypes.byref(one), a, kind, edge, b, kind, edge,
                                      ctypes.byref(zero), c, kind, edge, in_fp32, any_way), "cublasGemmEx")

        seconds = self.seconds(multiply, 10)
        self.give_back(*room)
        cublas.cublasDestroy_v2(handle)
        return 2 * size**3 / seconds / 1e12


def bf16(values):
    """Numbers as bf16, cut and not rounded."""
    wide, narrow = array("f", values).tobytes(), bytearray(2 * len(values))
    narrow[0::2], narrow[1::2] = wide[2::4], wide[3::4]
    return bytes(narrow)


def memory_of_this_machine(size=1 << 28):
    """GB/s of one thread that copies, what is read and what is written."""
    one, other = ctypes.create_string_buffer(size), ctypes.create_string_buffer(size)
    rounds = []
    for _ in range(5):
        began = time.perf_counter()
        ctypes.memmove(other, one, size)
        rounds.append(time.perf_counter() - began)
    return 2 * size / min(rounds) / GB


class Watch:
    """How busy the card was while something ran, as `nvidia-smi` says it five times a second; nothing without that program."""

    ASKED = "utilization.gpu,utilization.memory,memory.used,power.draw"

    def __enter__(self):
        command = ["nvidia-smi", "-i", "0", f"--query-gpu={self.ASKED}", "--format=csv,noheader,nounits", "-lms", "200"]
        try:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        except OSError:
            self.process = None
        return self

    def __exit__(self, *_):
        self.seen = {}
        if self.process is None:
            return
        self.process.terminate()
        rows = []
        for line in self.process.communicate()[0].splitlines():
            try:
                rows.append([float(cell) for cell in line.split(",")])
            except ValueError:
                pass
        # Before the first and behind the last work there is nothing to see.
        busy = [row for row in rows if row[0] > 0]
        if busy:
            middle = [sorted(column)[len(busy) // 2] for column in zip(*busy)]
            keys = ["gpu_busy_percent", "memory_busy_percent", "memory_mb", "watts"]
            self.seen = dict(zip(keys, middle)) | {"memory_mb": max(row[2] for row in busy)}


def main():
    """Printed as JSON, each part by itself: what fails says why."""
    folders, _ = library_folders()
    card, found = Card(), {}
    for name, work in {"facts": card.facts, "copies_gb_per_second": card.copies, "bf16_tflops": lambda: card.products(folders)}.items():
        try:
            found[name] = work()
        except Exception as why:
            found[f"{name}_failed"] = f"{type(why).__name__}: {why}"
    print(json.dumps(found))


if __name__ == "__main__":
    main()
