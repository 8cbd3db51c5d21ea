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

SET_STATS = ("set_stats", "ansible.builtin.set_stats", "ansible.legacy.set_stats")

MAX_SEARCHED = 256 << 10  # characters of a command's output that are searched for its reason, from the end
OUTPUT_LINES = 200  # lines of a failed task's output in its event, for the patterns of `retry_when`
OUTPUT_SIZE = 64 << 10  # their characters

TIMESTAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.,]\d+ \| ")  # devstack puts one before each line
TRACE = re.compile(r"^\++ ")  # a command that bash prints because of `set -x`
COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# The results of failed tests, as stestr, pytest and unittest print them.
FAILED_TEST = re.compile(
    r"^\{\d+\} (?P<stestr>.+?) \[[\d.]+s\] \.\.\. FAILED"
    r"|^FAILED (?P<pytest>\S+::\S+)"
    r"|^(?:FAIL|ERROR): (?P<unittest>(?:test\w*|setUpClass) \([\w.]+\))"
)
# Lines that say why a command failed, best first. Devstack's own error is from the step that failed. The reasons of
# tools come before exceptions, because a tool may print a traceback and go on.
REASONS = (
    re.compile(r"^\[ERROR\] "),
    re.compile(
        r"^(fatal|ERROR|E|error): |^(curl: \(\d+\)|wget:|dpkg: error|CONFLICT) |\d\d:\d\d:\d\d ERROR \d{3}: "
        r"|Max retries exceeded with url|No space left on device|Read-only file system"
    ),
    re.compile(
        r"^([\w.]+\.)?\w*(Error|Exception|Timeout|NotFound|Invalid\w*|Failure)(: \S|$)|^Job for \S+ failed"
        r"|^sudo: |: (command not found|Permission denied|No such file or directory|unbound variable)$|: syntax error "
    ),
)
# Lines that look like a reason, and only say that the reason is above.
VAGUE = re.compile(
    r"^error: (metadata-generation-failed|subprocess-exited-with-error|legacy-install-failure|failed-wheel-build)"
    r"|^error: command .* failed with exit|^ERROR: ResolutionImpossible"
    r"|^E: (Unable to fetch some archives|Sub-process \S+ returned an error code)"
    r"|^fatal: (clone of|index-pack failed|fetch-pack: invalid)"
)


def attribute(result, name):
    """`result.name` as ansible-core 2.19 calls it, `result._name` as all before do."""
    return getattr(result, name) if hasattr(result, name) else getattr(result, "_" + name)


def text(value):
    return (value if isinstance(value, str) else json.dumps(value, default=str))[:MAX_TEXT]


def lines_of(value):
    lines = str(value or "")[-MAX_SEARCHED:].splitlines()
    lines = (TIMESTAMP.sub("", COLOUR.sub("", line).strip()).strip() for line in lines)
    return [line for line in lines if line]


def failed_test(lines):
    """The first test that failed, and how many more did."""
    found = (FAILED_TEST.match(line) for line in lines)
    names = list(dict.fromkeys(match.group(match.lastgroup) for match in found if match))
    more = " (and %d more)" % (len(names) - 1) if len(names) > 1 else ""
    return "failed test: %s%s" % (names[0], more) if names else ""


def with_cause(line, lines):
    """Devstack's error for a failed git command names the command only. Git's own words are the last `fatal:` before it."""
    if "git call failed: " not in line:
        return line
    before = lines[: len(lines) - 1 - lines[::-1].index(line)][-20:]
    cause = next((other for other in reversed(before) if other.startswith("fatal: ")), "")
    return "%s: %s" % (line, cause) if cause else line


def reason(stderr, stdout, merged=False):
    """Why a command failed: the first test that failed, else its last line that looks like an error, else its last that
    is no shell trace. `merged`: all of its output is in `stdout`."""
    err, out = lines_of(stderr), lines_of(stdout)
    # stack.sh redirects both of its streams through a filter to stdout: stderr holds only the trace of what ran before.
    redirected = not err or TRACE.match(err[-1])
    streams = [[line for line in lines if not TRACE.match(line)] for lines in ([out, err] if redirected else [err])]
    for lines in streams:
        if failed_test(lines):
            return failed_test(lines)
        for certain in (True, False):
            for pattern in REASONS:
                for line in reversed(lines):
                    if pattern.search(line) and not (certain and VAGUE.search(line)):
                        return with_cause(line, lines)
    # Without stderr the last line of stdout is usually a summary, which is no reason.
    return next((lines[-1] for lines in streams if lines), "") if err or merged else ""


def output(*texts):
    """The last lines of what a failed task printed, without shell traces: these quote messages of other commands."""
    lines, room = [], OUTPUT_SIZE
    for value in texts:
        lines += [line for line in lines_of(value)[-OUTPUT_LINES:] if not TRACE.match(line)]
    kept = []
    for line in reversed(lines[-OUTPUT_LINES:]):
        room -= min(len(line), MAX_TEXT)
        if room < 0:
            break
        kept.append(line[:MAX_TEXT])
    return kept[::-1]


def out_of_memory(values):
    """Whether Ansible itself had no memory left. A module's exception comes with another message."""
    msg = str(values.get("msg") or "")
    lines = str(values.get("exception") or "").rstrip().splitlines()
    is_own = not msg or msg.startswith("Unexpected failure during module execution")
    return is_own and bool(lines) and lines[-1].startswith("MemoryError")


def verdict(task):
    """What a task says of the whole run when it fails: its variable `pushbutton_verdict`. Only `fail` may say it, which never
    leaves this machine, and the text must stand in the playbook itself: nothing that a node sends can be taken for it."""
    action = str(getattr(task, "action", "")).split(".")[-1]
    value = (getattr(task, "vars", None) or {}).get("pushbutton_verdict")
    return str(value) if action == "fail" and isinstance(value, str) else ""


def log_url(task, values):
    """The log URL of the run that a task sets, or None. Only `set_stats` sets it, which never leaves this machine: a node can
    send `ansible_stats` in the result of any module, and Ansible takes them as its own."""
    if getattr(task, "action", "") not in SET_STATS:
        return None
    items = values.get("results")
    url = None
    for value in items if isinstance(items, list) else [values]:
        stats = value.get("ansible_stats") if isinstance(value, dict) else None
        data = stats.get("data") if isinstance(stats, dict) and not stats.get("per_host", True) else None
        if isinstance(data, dict):
            url = data.get("log_url", url)
    return url


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
        self._log_url = None
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

    def _followed(self, values):
        """The end of the output of `pushbutton_command`, which its action plugin left in the stage's folder."""
        token = values.get("output_token")
        if not isinstance(token, str) or not re.match("^[0-9a-f]{32}$", token):
            return ""
        try:
            with open(os.path.join(os.path.dirname(self._events.name), "output-" + token), "rb") as file:
                return file.read(MAX_SEARCHED).decode("utf-8", "replace")
        except OSError:
            return ""

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
            msg, followed = values.get("msg", ""), self._followed(values)
            stdout = followed or values.get("stdout") or values.get("module_stdout")
            stderr = values.get("stderr") or values.get("module_stderr")
            fields.update(
                msg=text(msg), reason=text(reason(stderr, stdout, bool(followed))), output=output(stdout, stderr, msg),
                out_of_memory=out_of_memory(values),
                ignored=bool(ignored), rescued=rescued(task), delegated_to=self._delegated(host, task),
                verdict=text(verdict(task)), in_nodes=any(group.get_name() == GROUP for group in host.get_groups()),
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
        url = log_url(attribute(result, "task"), attribute(result, "result"))
        if isinstance(url, str):
            self._log_url = url  # the last one counts

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
        if self._log_url is not None:
            self._write("log-url", url=self._log_url[:MAX_TEXT])
