# Writes what happens in a playbook to the file PUSHBUTTON_EVENTS, one JSON object per line.
# pushbutton decides by these lines. Ansible's own callback prints the output for people.
import json
import os
import re

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
    name: pushbutton
    type: aggregate
    short_description: events for pushbutton
    description: Writes plays, tasks, results and statistics as JSON lines.
"""

MAX_TEXT = 2000  # characters of a message

TIMESTAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.,]\d+ \| ")  # devstack puts one before each line
TRACE = re.compile(r"^\++ ")  # a command that bash prints because of `set -x`
# Lines that say why a command failed. Devstack's own error comes first: it is from the step that failed.
REASONS = (
    re.compile(r"^\[ERROR\] "),
    re.compile(r"^(fatal|ERROR|E|error): |Max retries exceeded with url"),
)


def attribute(result, name):
    """`result.name` as ansible-core 2.19 calls it, `result._name` as all before do."""
    return getattr(result, name) if hasattr(result, name) else getattr(result, "_" + name)


def text(value):
    return (value if isinstance(value, str) else json.dumps(value, default=str))[:MAX_TEXT]


def lines_of(value):
    lines = [TIMESTAMP.sub("", line.strip()).strip() for line in str(value or "").splitlines()]
    return [line for line in lines if line]


def reason(stderr, stdout):
    """Why a command failed: its last line that looks like an error, else its last that is no shell trace."""
    err, out = lines_of(stderr), lines_of(stdout)
    # stack.sh redirects both of its streams through a filter to stdout: stderr holds only the trace of what ran before.
    redirected = not err or TRACE.match(err[-1])
    streams = [[line for line in lines if not TRACE.match(line)] for lines in ([out, err] if redirected else [err])]
    for lines in streams:
        for pattern in REASONS:
            for line in reversed(lines):
                if pattern.search(line):
                    return line
    # Without stderr the last line of stdout is usually a summary, which is no reason.
    return next((lines[-1] for lines in streams if lines), "") if err else ""


def rescued(task):
    """Whether the task is in a block that has a rescue."""
    child, block = task, getattr(task, "_parent", None)
    while block is not None:
        inside = [getattr(entry, "_uuid", None) for entry in getattr(block, "block", None) or []]
        if getattr(block, "rescue", None) and child._uuid in inside:
            return True
        child, block = block, getattr(block, "_parent", None)
    return False


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "pushbutton"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._events = open(os.environ["PUSHBUTTON_EVENTS"], "a", encoding="ascii", buffering=1)

    def _write(self, event, **fields):
        self._events.write(json.dumps({"event": event, **fields}, default=str) + "\n")

    def _write_result(self, result, status, ignored=False):
        values, task = attribute(result, "result"), attribute(result, "task")
        if status == "failed":
            items = values.get("results")
            for value in items if isinstance(items, list) else []:
                if isinstance(value, dict) and value.get("failed"):
                    values = value
                    break
        fields = {"rc": values.get("rc")} if isinstance(values.get("rc"), int) else {}
        if status in ("failed", "unreachable"):
            fields.update(
                msg=text(values.get("msg", "")), reason=text(reason(values.get("stderr"), values.get("stdout"))),
                ignored=bool(ignored), rescued=rescued(task),
            )
        self._write("result", status=status, host=attribute(result, "host").get_name(), task=text(task.get_name()), **fields)

    def v2_playbook_on_play_start(self, play):
        self._write("play", name=text(play.get_name()))

    def v2_playbook_on_no_hosts_matched(self):
        self._write("no-hosts")

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._write("task", name=text(task.get_name()))

    def v2_playbook_on_handler_task_start(self, task):
        self._write("task", name=text(task.get_name()))

    def v2_runner_on_ok(self, result):
        self._write_result(result, "ok")

    def v2_runner_on_skipped(self, result):
        self._write_result(result, "skipped")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._write_result(result, "failed", ignored=ignore_errors)

    def v2_runner_on_unreachable(self, result):
        self._write_result(result, "unreachable", ignored=getattr(attribute(result, "task"), "ignore_unreachable", False))

    def v2_playbook_on_stats(self, stats):
        hosts = {host: stats.summarize(host) for host in sorted(stats.processed)}
        self._write("stats", hosts=hosts)
        url = (getattr(stats, "custom", None) or {}).get("_run", {}).get("log_url")
        if isinstance(url, str):
            self._write("log-url", url=url[:MAX_TEXT])
