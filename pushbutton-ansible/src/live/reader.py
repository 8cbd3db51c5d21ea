# Runs on the node, once for each call: `python - FOLDER OFFSET LIMIT WAIT` prints what the command of the folder has
# written after OFFSET, as one line of JSON. OFFSET confirms what was received: files before it are removed. Waits WAIT
# seconds at most for new output. LIMIT 0 makes the command end, -1 removes the folder.
import base64
import fcntl
import json
import os
import shutil
import sys
import time

SEGMENT = 4 << 20  # as in the module
GATHER = 0.15  # seconds to wait for more output, so that there are fewer calls

folder, offset, limit, wait = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])


def reply(**fields):
    print("\npushbutton-reply " + json.dumps(fields))
    sys.exit(0)


def path(name):
    return os.path.join(folder, name)


def status():
    try:
        with open(path("status")) as file:
            return [int(number) for number in file.read().split()]
    except OSError:
        return None


def is_dead():
    try:
        with open(path("lock")) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return False  # an earlier call is just starting it


def read(start, length):
    try:
        with open(path("out.%d" % (start // SEGMENT)), "rb") as file:
            file.seek(start % SEGMENT)
            return file.read(min(length, SEGMENT - start % SEGMENT))
    except OSError:
        return b""


if limit < 0:
    shutil.rmtree(folder, ignore_errors=True)
    reply(removed=True)
if not os.path.isdir(folder):
    reply(gone=True)
if limit == 0:
    open(path("stop"), "w").close()
    reply(stopping=True)
with open(path("seen.new"), "w") as seen:
    seen.write("%f" % time.monotonic())
os.rename(path("seen.new"), path("seen"))
number = offset // SEGMENT - 1
while number >= 0 and os.path.exists(path("out.%d" % number)):
    os.unlink(path("out.%d" % number))
    number -= 1

data, end = b"", time.monotonic() + wait
while True:
    dead, ended = is_dead(), status()  # before the output: nothing follows after the end
    while True:
        more = read(offset + len(data), limit - len(data))
        data += more
        if not more:
            break
    if len(data) >= limit or ended or dead or time.monotonic() >= end:
        break
    if data:
        end = min(end, time.monotonic() + GATHER)
    time.sleep(0.03)
complete = ended is not None and offset + len(data) >= ended[1]
reply(
    data=base64.b64encode(data).decode("ascii"), now=int(time.time() * 1000),
    rc=ended[0] if complete else None, dead=dead and ended is None,
)
