#!/usr/bin/python
# Starts a command on a node, detached from the connection. Its output and its exit status are written to files in a
# folder of its own, from which the action plugin of the same name reads. Needs Python 3.9 or later and Linux.
#
#   out.N     the output, cut into files of SEGMENT bytes; each line begins with its time in milliseconds and a blank
#   status    the exit status and the length of the output; written last
#   lock      locked while the supervisor lives
#   seen      the monotonic time of the last reader
#   stop      made by a reader that wants the command to end
import ctypes
import errno
import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: pushbutton_command
short_description: run a long command and print its output while it runs
description:
  - Runs a command like M(ansible.builtin.command). Each line that it prints is shown at once, with its time.
  - The command goes on when the connection to the node is lost. It is ended when the task ends.
  - The result has C(rc) and C(lines), the number of lines. The output itself is in the console only.
options:
  argv:
    description: The command and its arguments. No shell is involved.
    type: list
    elements: str
    required: true
  chdir:
    description: The folder to run it in.
    type: path
  reconnect_timeout:
    description: For how many seconds a lost connection is tried again before the node is unreachable.
    type: int
    default: 300
  abandon_after:
    description:
      - After how many seconds without a reader the command is ended, as when the operator is gone.
      - Default C(2 * reconnect_timeout + 120). It must be longer than C(reconnect_timeout).
    type: int
  token:
    description: Set by the action plugin.
    type: str
"""

SEGMENT = 4 << 20  # bytes of one output file; the reader has the same number
MAX_UNREAD = 16  # output files that wait for the reader; then the command waits when it prints
MAX_LINE = 64 << 10  # bytes after which a line without an end is cut
QUIET = 0.5  # seconds without output after the command's end; background processes may keep the pipe open
GRACE = 5  # seconds from TERM to KILL
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


class Output:
    """Writes output to files, each line with its time."""

    def __init__(self, folder, may_wait):
        self.folder, self.may_wait = folder, may_wait
        self.line, self.total, self.file, self.number = b"", 0, None, -1

    def feed(self, data):
        data = self.line + data
        end = data.rfind(b"\n")
        if end < 0 and len(data) >= MAX_LINE:
            data, end = data + b"\n", len(data)
        self.line = data[end + 1:]
        if end >= 0:
            stamp = b"%d " % (time.time() * 1000)
            self.write(stamp + data[:end].replace(b"\n", b"\n" + stamp) + b"\n")

    def finish(self):
        if self.line:
            self.feed(b"\n")

    def write(self, data):
        while data:
            number = self.total // SEGMENT
            if number != self.number:
                if self.file is not None:
                    os.close(self.file)
                self.wait_for_reader(number)
                path = os.path.join(self.folder, "out.%d" % number)
                self.file, self.number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number
            written = os.write(self.file, data[:SEGMENT - self.total % SEGMENT])
            self.total += written
            data = data[written:]

    def wait_for_reader(self, number):
        # The reader removes what it has read.
        while os.path.exists(os.path.join(self.folder, "out.%d" % (number - MAX_UNREAD))) and self.may_wait():
            time.sleep(0.05)


def children():
    """The parent of each process."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name, "rb") as stat:
                    # The command's name is in parentheses and may hold anything.
                    fields = stat.read().rpartition(b")")[2].split()
            except OSError:
                continue
            if fields[0] not in (b"Z", b"X"):
                parents[int(name)] = int(fields[1])
    return parents


def descendants():
    """All processes below this one. Those whose parent ended belong to this one, which is a subreaper."""
    parents, found, last = children(), {os.getpid()}, 0
    while len(found) != last:
        last = len(found)
        found.update(pid for pid, parent in parents.items() if parent in found)
    return found - {os.getpid()}


def send(number, pids):
    refused = []
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError as error:
            if error.errno == errno.EPERM:
                refused.append(str(pid))
    if refused:
        # Processes that the command started with sudo.
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        try:
            subprocess.call(["sudo", "-n", "kill", "-%d" % number] + refused, **quiet)
        except OSError:
            pass


class Supervisor:
    """Runs the command, keeps its output, and ends it when asked to or when nobody reads any more."""

    def __init__(self, folder, argv, chdir, abandon_after):
        self.folder, self.argv, self.chdir, self.abandon_after = folder, argv, chdir, abandon_after
        self.pid, self.status, self.next_look, self.ended_it = None, None, 0, False
        self.output = Output(folder, self.may_wait)

    def run(self, ready):
        lock = os.open(os.path.join(self.folder, "lock"), os.O_WRONLY | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        self.touch()
        try:
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        except (OSError, AttributeError):
            pass
        pipe, writer = os.pipe()
        try:
            process = subprocess.Popen(
                self.argv, cwd=self.chdir, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            self.output.feed(("cannot run %s: %s\n" % (self.argv[0], error)).encode("utf-8", "replace"))
            self.finish(127)
            os.write(ready, b"r")
            return
        os.close(writer)
        os.write(ready, b"r")
        os.close(ready)
        self.pid = process.pid
        self.follow(pipe)
        # A background process that has the pipe would die of SIGPIPE if nobody read it.
        while not select.select([pipe], [], [], 5)[0] or os.read(pipe, 65536):
            self.reap()

    def follow(self, pipe):
        last, is_open = time.monotonic(), True
        while True:
            readable = is_open and select.select([pipe], [], [], 0.1)[0]
            if readable:
                data = os.read(pipe, 65536)
                is_open, last = bool(data), time.monotonic()
                self.output.feed(data)
            elif not is_open and self.status is None:
                time.sleep(0.05)
            self.reap()
            if self.status is not None and (not is_open or time.monotonic() - last > QUIET):
                return self.finish(self.status)
            if self.should_end():
                self.end()

    def reap(self):
        try:
            while True:
                ended, status = os.waitpid(-1, os.WNOHANG)
                if ended == 0:
                    return
                if ended == self.pid:
                    self.status = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        except OSError:
            return

    def touch(self):
        with open(os.path.join(self.folder, "seen"), "w") as seen:
            seen.write("%f" % time.monotonic())

    def should_end(self):
        """Whether the command must end. Looks at the files only now and then."""
        now = time.monotonic()
        if self.ended_it or now < self.next_look:
            return False
        self.next_look = now + 0.2
        if os.path.exists(os.path.join(self.folder, "stop")):
            return True
        try:
            with open(os.path.join(self.folder, "seen")) as seen:
                return now - float(seen.read()) > self.abandon_after
        except (OSError, ValueError):
            return not os.path.isdir(self.folder)  # the reader is just replacing the file, or the folder was removed

    def may_wait(self):
        self.reap()
        return not self.should_end()

    def end(self):
        """Ends the command and all that it started: TERM, and KILL to what is left after a while."""
        self.ended_it = True
        send(signal.SIGTERM, descendants())
        for step in range(20 * GRACE):
            self.reap()
            left = descendants()
            if not left:
                break
            if step >= 10 * GRACE:
                send(signal.SIGKILL, left)
            time.sleep(0.1)
        self.reap()
        if self.status is None:
            self.status = -signal.SIGKILL

    def finish(self, status):
        if self.ended_it:
            # Nobody asks for the rest.
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        self.output.finish()
        path = os.path.join(self.folder, "status")
        with open(path + ".new", "w") as file:
            file.write("%d %d" % (status, self.output.total))
        os.rename(path + ".new", path)


def start(folder, argv, chdir, abandon_after):
    """Starts the supervisor as a daemon. Returns when it has started the command."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        try:
            null = os.open(os.devnull, os.O_RDWR)
            for number in range(3):
                os.dup2(null, number)
            ready = os.dup2(writer, 3)
            os.closerange(4, 4096)
            os.chdir("/")
            Supervisor(folder, argv, chdir, abandon_after).run(ready)
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    return os.read(reader, 1) == b"r"


def main():
    module = AnsibleModule(argument_spec={
        "argv": {"type": "list", "elements": "str", "required": True},
        "chdir": {"type": "path"},
        "reconnect_timeout": {"type": "int", "default": 300},
        "abandon_after": {"type": "int"},
        "token": {"type": "str"},
    })
    options = module.params
    token = options["token"]
    if not token:
        module.fail_json(msg="the action plugin pushbutton_command is missing: it is part of pushbutton")
    if not options["argv"]:
        module.fail_json(msg="argv is empty")
    if options["chdir"] and not os.path.isdir(options["chdir"]):
        module.fail_json(msg="chdir: no folder %s" % options["chdir"])
    folder = os.path.join(tempfile.gettempdir(), ".pushbutton-command-" + token)
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        # An earlier call whose reply was lost has started it.
        module.exit_json(changed=True, folder=folder, python=sys.executable)
    # The reader gives up before the command does.
    abandon_after = options["abandon_after"] or 2 * options["reconnect_timeout"] + 120
    if not start(folder, options["argv"], options["chdir"], abandon_after):
        module.fail_json(msg="the supervisor of the command did not start; is %s full?" % tempfile.gettempdir())
    module.exit_json(changed=True, folder=folder, python=sys.executable)


if __name__ == "__main__":
    main()
