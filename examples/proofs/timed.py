"""python timed.py COMMAND…: runs a command, and says what it took: processor time of all its threads and processes, and the
largest memory of one of them."""
import json
import resource
import subprocess
import sys

code = subprocess.call(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"processor_seconds": used.ru_utime + used.ru_stime, "peak_memory_bytes": used.ru_maxrss * 1024}))
sys.exit(code)
