"""Pack logs: LOCAL_CONF at the root, each PATH below logs/, and for each `unit:PATTERN` the journal of its units as logs/UNIT.txt.

usage: pack_logs.py PACK LOCAL_CONF MARKER [PATH | unit:PATTERN ...]
Of a journal only what is younger than the file MARKER, if that is there: earlier runs on the same machine had units of these names.
Plain files only, links followed; text is gzipped one by one, so that a browser can show each. What cannot be read is
passed over, and so are keys: /etc/keystone holds those that sign tokens and encrypt credentials.
"""
import gzip
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

BLOCK = 1 << 20
TEXT = (".txt", ".log", ".conf", ".ini", ".json", ".yaml", ".yml", ".summary", "")
KEY_FOLDER = re.compile(r"(^|[-_.])keys$|^private$")  # fernet-keys, credential-keys, jws-keys
KEY_FILE = (".key", ".pem", ".p12", ".pfx", ".jks", ".keyring")
# A private key in PEM, or a key of Fernet, which is all that its file holds.
KEY = re.compile(rb"\s*-----BEGIN [A-Z0-9 ]*PRIVATE KEY|[A-Za-z0-9_-]{43}=\s*\Z")
KEY_START = 200  # bytes of a file that tell whether it is one
JOURNAL = ["journalctl", "--no-pager", "--output=short-iso-precise", "--utc"]


def lines_of(*words):
    """What a command prints, in a temporary file; empty when it cannot be run."""
    out = tempfile.TemporaryFile()
    try:
        subprocess.call(words, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL)
    except OSError:
        pass
    out.seek(0)
    return out


def add(pack, name, source, compress):
    with tempfile.TemporaryFile() as copy:
        if compress:
            with gzip.open(copy, "wb") as out:
                shutil.copyfileobj(source, out, BLOCK)
        else:
            shutil.copyfileobj(source, copy, BLOCK)
        entry = tarfile.TarInfo(name + (".gz" if compress else ""))
        # The position, since it counts what the file object still buffers; fstat() asks the kernel, which has not seen that yet.
        entry.size, entry.mode = copy.tell(), 0o644
        copy.seek(0)
        pack.addfile(entry, copy)


def is_key(path, source):
    start = source.read(KEY_START)
    source.seek(0)
    return path.lower().endswith(KEY_FILE) or KEY.match(start)


def add_file(pack, name, path, compress=True):
    try:
        if os.path.isfile(path):  # not a pipe or a device
            with open(path, "rb") as source:
                if is_key(path, source):
                    print("passed over %s: it is a key" % path)
                    return
                add(pack, name, source, compress and os.path.splitext(path)[1] in TEXT)
    except OSError as error:
        print("passed over %s: %s" % (path, error))


def add_path(pack, path):
    base = os.path.basename(path.rstrip("/"))
    if not os.path.isdir(path):
        add_file(pack, "logs/" + base, path)
    for folder, folders, names in os.walk(path):
        if KEY_FOLDER.search(os.path.basename(folder.rstrip("/"))):
            print("passed over %s: a folder of keys" % folder)
            folders.clear()
            continue
        # Devstack writes stack.sh.txt.DATE and links it as stack.sh.txt: a file with several names is taken once, by its shortest.
        taken = set()
        for name in sorted(names, key=lambda name: (len(name), name)):
            try:
                status = os.stat(os.path.join(folder, name))
            except OSError:
                continue  # a link to nothing
            if (status.st_dev, status.st_ino) in taken:
                continue
            taken.add((status.st_dev, status.st_ino))
            inside = os.path.relpath(os.path.join(folder, name), path)
            # Devstack's own folder of logs is what logs/ stands for.
            top = "logs" if base == "logs" else "logs/" + base
            add_file(pack, os.path.join(top, inside), os.path.join(folder, name))


def add_units(pack, pattern, since):
    listed = lines_of("systemctl", "list-units", "--all", "--plain", "--no-legend", pattern)
    for line in listed.read().decode("utf-8", "replace").splitlines():
        unit = line.split()[0]
        name = unit.replace("devstack@", "").replace(".service", "").replace("/", "-")
        add(pack, "logs/%s.txt" % name, lines_of(*JOURNAL, *since, "--unit", unit), True)


def main():
    target, local_conf, marker, *wanted = sys.argv[1:]
    since = ["--since=@%d" % os.stat(marker).st_mtime] if os.path.exists(marker) else []
    with tarfile.open(target, "w:gz") as pack:
        add_file(pack, "local.conf", local_conf, compress=False)
        for word in wanted:
            if word.startswith("unit:"):
                add_units(pack, word[len("unit:"):], since)
            else:
                add_path(pack, word)


main()
