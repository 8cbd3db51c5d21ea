#!/usr/bin/env python3
"""Import a big code base once, then fork one process per job from it: forkrun.py SPEC.json

Importing Nova costs 2-3 s of CPU; on two cores, eight fresh interpreters would be most of the start-up time, and forked
children share the pages. SPEC: {"import": [module], "mode": "seq" or "daemon", "log": folder, "pid": folder,
"jobs": [{"name", "call": "module:function", "argv": [...], "out": log file's name, "wait_queue": [port, queue]}]}
seq: one job after another, stop at the first that fails. daemon: a session and a pid file for each, return at once.
"""
import gc
import importlib
import json
import os
import sys
import time
import traceback

fork, waitpid = os.fork, os.waitpid  # kept before eventlet patches os


def child(spec, job):
    if spec["mode"] == "daemon":
        os.setsid()
    log = os.open(os.path.join(spec["log"], job.get("out", job["name"] + ".out")), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for target, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
        os.dup2(source, target)
    sys.argv = job["argv"]
    if "eventlet" in sys.modules:
        import eventlet.hubs
        eventlet.hubs.use_hub()  # a fresh epoll object: the parent's must not be shared
    module, function = job["call"].split(":")
    code = 1
    try:
        code = getattr(importlib.import_module(module), function)() or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else (1 if end.code else 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait_queue(port, queue, limit=30):
    """nova-compute asks the conductor once and then sleeps 10 s: it must not start before that queue exists."""
    import amqp
    end = time.monotonic() + limit
    while time.monotonic() < end:
        try:
            with amqp.Connection(f"127.0.0.1:{port}", userid="guest", password="guest") as connection:
                connection.channel().queue_declare(queue, passive=True)
            return
        except Exception:  # not there yet, in any of many ways
            time.sleep(0.2)


def start_time(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        return stat.read().rpartition(")")[2].split()[19]


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        spec = json.load(file)
    for module in spec["import"]:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    for job in spec["jobs"]:
        if "wait_queue" in job:
            wait_queue(*job["wait_queue"])
        pid = fork()
        if pid == 0:
            child(spec, job)
        if spec["mode"] == "daemon":
            with open(os.path.join(spec["pid"], job["name"] + ".pid"), "w", encoding="utf-8") as file:
                file.write(f"{pid} {start_time(pid)}\n")
        elif waitpid(pid, 0)[1]:
            sys.exit("failed: " + " ".join(job["argv"]))
    os._exit(0)


if __name__ == "__main__":
    main()
