"""Run COMMAND with its output kept in FILE and passed on while it is written; exit as it does.

usage: keep_output.py [--quiet] FILE COMMAND [ARGUMENT ...]
With --quiet only stdout is kept, and nothing is passed on. A pipe to tee would do the same, but end with tee's exit status, and wait for
every process that the command leaves behind.
"""
import subprocess
import sys

words = sys.argv[1:]
quiet = words[0] == "--quiet"
path, command = words[quiet], words[quiet + 1:]
with open(path, "wb") as kept:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=kept, stderr=None if quiet else kept)
with open(path, "rb") as written:
    while not quiet:
        ended = process.poll() is not None
        new = written.read(65536)
        if new:
            sys.stdout.buffer.write(new)
            sys.stdout.buffer.flush()
        elif ended:
            break
        else:
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                pass
status = process.wait()
sys.exit(status if status >= 0 else 128 - status)
