# Writes what happens in a playbook to the file PUSHBUTTON_EVENTS, one JSON object per line.
# pushbutton decides by these lines. Ansible's own callback prints the output for people.
import json
import os
import re
import sys

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
    name: pushbutton
    type: aggregate
    short_description: events for pushbutton
    description: Writes plays, tasks, results and statistics as JSON lines.
"""

MAX_TEXT = 2000  # characters of a message
GROUP = "nodes"  # the group of all nodes of a run
EXIT_CANNOT_WRITE = 74  # sysexits.h: EX_IOERR

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
        self._play_hosts = ""
        self._lost_items = {}
        try:
            # Ansible decodes bytes that are not UTF-8 as surrogates, which no JSON reader accepts: they become `?`.
            self._events = open(os.environ["PUSHBUTTON_EVENTS"], "a", encoding="utf-8", errors="replace", buffering=1)
        except OSError as error:
            self._abort(error)

    def _abort(self, error):
        """Ends Ansible: it would only warn about an exception here, and pushbutton would judge by half of the events."""
        print("ERROR! cannot write the events of the playbook: %s" % error, file=sys.stderr, flush=True)
        os._exit(EXIT_CANNOT_WRITE)

    def _write(self, event, **fields):
        try:
            self._events.write(json.dumps({"event": event, **fields}, default=str, ensure_ascii=False) + "\n")
        except OSError as error:
            self._abort(error)

    def _delegated(self, host, task):
        """The host that the task is delegated to. In a loop each item can have another: the first that was unreachable."""
        name = self._lost_items.get((host.get_name(), task._uuid)) or getattr(task, "delegate_to", None)
        return name and text(name)

    def _write_result(self, result, status, ignored=False):
        values, task, host = (attribute(result, name) for name in ("result", "task", "host"))
        if status in ("failed", "unreachable"):
            items = values.get("results")
            for value in items if isinstance(items, list) else []:
                if isinstance(value, dict) and value.get(status):
                    values = value
                    break
        fields = {"rc": values.get("rc")} if isinstance(values.get("rc"), int) else {}
        if status in ("failed", "unreachable"):
            fields.update(
                msg=text(values.get("msg", "")), reason=text(reason(values.get("stderr"), values.get("stdout"))),
                ignored=bool(ignored), rescued=rescued(task), delegated_to=self._delegated(host, task),
                in_nodes=any(group.get_name() == GROUP for group in host.get_groups()),
            )
        self._write("result", status=status, host=host.get_name(), task=text(task.get_name()), **fields)

    def v2_playbook_on_play_start(self, play):
        hosts = play.hosts
        self._play_hosts = text(hosts if isinstance(hosts, str) else ",".join(map(str, hosts)))
        self._write("play", name=text(play.get_name()))

    def v2_playbook_on_no_hosts_matched(self):
        # Ansible announces the play right before.
        self._write("no-hosts", hosts=self._play_hosts)

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

    def v2_runner_item_on_failed(self, result):
        task, host = attribute(result, "task"), attribute(result, "host")
        if attribute(result, "result").get("unreachable") and getattr(task, "delegate_to", None):
            self._lost_items.setdefault((host.get_name(), task._uuid), task.delegate_to)

    v2_runner_item_on_unreachable = v2_runner_item_on_failed  # later versions tell the two apart

    def v2_runner_on_unreachable(self, result):
        self._write_result(result, "unreachable", ignored=getattr(attribute(result, "task"), "ignore_unreachable", False))

    def v2_playbook_on_stats(self, stats):
        hosts = {host: stats.summarize(host) for host in sorted(stats.processed)}
        self._write("stats", hosts=hosts)
        url = (getattr(stats, "custom", None) or {}).get("_run", {}).get("log_url")
        if isinstance(url, str):
            self._write("log-url", url=url[:MAX_TEXT])
