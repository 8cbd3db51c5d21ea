"""Run COMMAND with its output kept in FILE and its last lines printed; exit as it does.

usage: keep_output.py [--quiet] FILE COMMAND [ARGUMENT ...]
With --quiet only stdout is kept, and nothing is printed. A pipe to tee would do the same, but end with tee's exit status.
"""
import subprocess
import sys

LAST = 100  # lines

words = sys.argv[1:]
quiet = words[0] == "--quiet"
path, command = words[quiet], words[quiet + 1:]
with open(path, "wb") as kept:
    status = subprocess.call(command, stdin=subprocess.DEVNULL, stdout=kept, stderr=None if quiet else kept)
if not quiet:
    with open(path, encoding="utf-8", errors="replace") as kept:
        print("".join(kept.readlines()[-LAST:]))
sys.exit(status if status >= 0 else 128 - status)
