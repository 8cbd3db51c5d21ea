# Runs a command on a node and prints its lines while it runs. The module of the same name starts it; this plugin then
# asks for new output by short calls, which may fail: the command goes on, and the next call continues where the last
# one that came through ended.
import base64
import collections
import json
import os
import shlex
import signal
import time
import uuid

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

# What a call runs on the node.
with open(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "reader.py"), "rb") as file:
    READER = file.read()

display = Display()

LIMIT = 512 << 10  # bytes of output in one reply
WAIT = 10  # seconds that a call waits on the node for output
STARTS = 3  # attempts to start the command
TAIL = 256 << 10  # bytes of output that are kept for the reason of a failure
CLOCK_ERROR = 2000  # milliseconds by which a node's clock may differ before times are corrected
MAX_SOCKET = 85  # bytes of a socket's path; ssh appends 17 while it makes it, and the limit is 107


class Cancelled(BaseException):
    pass


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset(("argv", "chdir", "reconnect_timeout", "abandon_after"))

    def run(self, tmp=None, task_vars=None):
        result = super(ActionModule, self).run(tmp, task_vars)
        del tmp
        args = dict(self._task.args)
        if self._task.check_mode:
            return dict(result, skipped=True, msg="a long command is not run in check mode")
        self._token = uuid.uuid4().hex
        self._host = (task_vars or {}).get("inventory_hostname", "node")
        self._timeout = int(args.get("reconnect_timeout", 300))
        self._folder, self._rest, self._skew, self._lines, self._tail_size = None, b"", None, 0, 0
        self._tail = collections.deque()
        before = signal.signal(signal.SIGTERM, self._cancel)
        socket = self._share_connection()
        try:
            started = self._start(dict(args, token=self._token), task_vars)
            if started.get("failed") or started.get("skipped") or "folder" not in started:
                result.update(started)
                return result
            self._folder, self._python = started["folder"], started.get("python") or "python3"
            rc = self._follow()
            try:
                self._ask(-1, 0)
            except (AnsibleError, ValueError):
                pass  # The command has ended. Its folder on the node is left, which fails nothing.
        except BaseException as error:
            if self._folder is not None and not isinstance(error, AnsibleConnectionFailure):
                self._end_command()
            if isinstance(error, Cancelled):
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                os.kill(os.getpid(), signal.SIGTERM)
            raise
        finally:
            signal.signal(signal.SIGTERM, before)
            self._close_connection(socket)
        result.update(changed=True, rc=rc, lines=self._lines)
        if rc != 0:
            self._keep_tail(result)
            result.update(failed=True, msg="non-zero return code")
        return result

    def _cancel(self, number, frame):
        # A second signal must not end the call that ends the command. Programs that are started now ignore it too.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Cancelled()

    def _end_command(self):
        try:
            self._ask(0, 0)
        except Exception:  # the command ends by itself when nobody asks for its output any more
            pass

    # ---- the connection

    def _share_connection(self):
        """Lets the calls share one SSH connection, whose socket is at the path that is returned."""
        folder = os.environ.get("PUSHBUTTON_SOCKETS")
        if not folder or getattr(self._connection, "transport", "") != "ssh":
            return None
        socket = os.path.join(folder, "s-" + self._token[:8])
        args = self._connection.get_option("ssh_args") or ""
        if len(socket) > MAX_SOCKET or "ControlPath=none" not in args:
            return None
        for old, new in (("ControlMaster=no", "ControlMaster=auto"), ("ControlPath=none", "ControlPath=" + socket)):
            args = args.replace(old, new)
        self._connection.set_option("ssh_args", args + " -o ControlPersist=60")
        return socket

    def _close_connection(self, socket):
        if socket is None:
            return
        try:
            if os.path.exists(socket):
                self._connection.reset()
            os.unlink(socket)
        except Exception:  # the process of the connection ends with the stage
            pass

    # ---- calls to the node

    def _start(self, args, task_vars):
        for attempt in range(STARTS):
            try:
                return self._execute_module(module_name="pushbutton_command", module_args=args, task_vars=task_vars)
            except AnsibleConnectionFailure:
                # The module knows by the token whether an earlier call has started the command.
                if attempt == STARTS - 1:
                    raise
                time.sleep(2)

    def _ask(self, limit, wait, offset=0):
        words = [self._python, "-", self._folder, str(offset), str(limit), str(wait)]
        command = " ".join(shlex.quote(word) for word in words)
        answer = self._low_level_execute_command(command, in_data=READER)
        for line in answer["stdout"].splitlines():
            if line.startswith("pushbutton-reply "):
                return json.loads(line.partition(" ")[2])
        raise AnsibleError("no reply: exit %s: %s" % (answer["rc"], (answer["stderr"] or answer["stdout"])[-300:]))

    def _follow(self):
        """Prints output until the command ends; returns its exit status."""
        offset, lost = 0, None
        while True:
            try:
                reply = self._ask(LIMIT, WAIT, offset)
                data = base64.b64decode(reply.get("data", ""))
            except (AnsibleError, ValueError) as error:
                now = time.monotonic()
                if lost is None:
                    lost = now
                    self._note("lost the connection; the command goes on there. %s" % error)
                if now - lost > self._timeout:
                    raise AnsibleConnectionFailure(
                        "Failed to connect to the host via ssh for %d s: %s" % (self._timeout, error)
                    )
                time.sleep(1)
                continue
            if lost is not None:
                self._note("is connected again after %d s" % (time.monotonic() - lost))
                lost = None
            if reply.get("gone") or reply.get("dead"):
                self._print(self._rest)
                what = "the folder of its output was removed" if reply.get("gone") else "its supervisor was killed"
                raise AnsibleConnectionFailure("lost the command on the node: %s; was the node restarted?" % what)
            received = int(time.time() * 1000) - int(reply.get("now", 0))
            self._skew = received if self._skew is None else min(self._skew, received)
            offset += len(data)
            whole, end, self._rest = (self._rest + data).rpartition(b"\n")
            self._print(whole + end)
            if reply.get("rc") is not None:
                return int(reply["rc"])

    # ---- output

    def _note(self, text):
        display.display("pushbutton: %s %s" % (self._host, " ".join(str(text).split())[:500]))

    def _print(self, data):
        records = data.split(b"\n")[:-1]
        self._lines += len(records)
        mark = os.environ.get("PUSHBUTTON_LINE_MARK")
        skew = self._skew if abs(self._skew or 0) > CLOCK_ERROR else 0
        shown = []
        for record in records:
            stamp, _, line = record.partition(b" ")
            self._tail.append(line)
            self._tail_size += len(line) + 1
            while self._tail_size > TAIL:
                self._tail_size -= len(self._tail.popleft()) + 1
            text = line.decode("utf-8", "replace")
            if mark and stamp.isdigit():
                shown.append("%s %d %s %s" % (mark, int(stamp) + skew, self._host, text))
            else:
                shown.append("%s | %s" % (self._host, text))
        if shown and not self._task.no_log:
            display.display("\n".join(shown))

    def _keep_tail(self, result):
        """Keeps the end of the output for the callback plugin, which looks for the reason."""
        events = os.environ.get("PUSHBUTTON_EVENTS")
        if events and not self._task.no_log:
            path = os.path.join(os.path.dirname(events), "output-" + self._token)
            with open(path, "wb") as file:
                file.write(b"\n".join(self._tail))
            result["output_token"] = self._token
