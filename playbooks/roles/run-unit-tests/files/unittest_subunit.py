"""Run the unittest tests below START; write a subunit v2 stream to STREAM and what unittest prints to TEXT.

usage: unittest_subunit.py START STREAM TEXT
Exits 0 when all passed, 1 when some failed or there was none.
"""
import struct
import sys
import time
import unittest
import zlib

INPROGRESS, SUCCESS, UXSUCCESS, SKIP, FAIL, XFAIL = 2, 3, 4, 5, 6, 7  # subunit's numbers for a test's status
VERSION, TEST_ID, TIMESTAMP = 0x2000, 0x0800, 0x0200


def number(value):
    """A number as subunit writes it: its length in the two highest bits."""
    if value < 1 << 6:
        return struct.pack(">B", value)
    if value < 1 << 14:
        return struct.pack(">H", value | 0x4000)
    if value < 1 << 22:
        return struct.pack(">I", value | 0x800000)[1:]
    return struct.pack(">I", value | 0xC0000000)


def packet(test, status, when):
    seconds = int(when)
    name = test.encode("utf-8", "replace")[:100000]
    body = struct.pack(">I", seconds) + number(int((when - seconds) * 1e9)) + number(len(name)) + name
    rest = 3 + len(body) + 4  # signature and flags, body, checksum; the length counts itself too
    size = next(n for n in (1, 2, 3) if len(number(rest + n)) == n)
    head = struct.pack(">BH", 0xB3, VERSION | TEST_ID | TIMESTAMP | status) + number(rest + size)
    return head + body + struct.pack(">I", zlib.crc32(head + body))


class Result(unittest.TextTestResult):
    stream_file = None

    def tell(self, test, status):
        self.stream_file.write(packet(test.id(), status, time.time()))
        self.stream_file.flush()

    def startTest(self, test):
        super().startTest(test)
        self.broken = False
        self.tell(test, INPROGRESS)

    def addSuccess(self, test):
        super().addSuccess(test)
        if not self.broken:
            self.tell(test, SUCCESS)

    def addError(self, test, err):
        super().addError(test, err)
        self.tell(test, FAIL)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.tell(test, FAIL)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.broken = True
            self.tell(test, FAIL)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.tell(test, SKIP)

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self.tell(test, XFAIL)

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.tell(test, UXSUCCESS)


def main():
    start, stream, text = sys.argv[1:]
    sys.path.insert(0, "")
    suite = unittest.defaultTestLoader.discover(start)
    with open(stream, "wb") as Result.stream_file, open(text, "w", encoding="utf-8") as human:
        result = unittest.TextTestRunner(stream=human, verbosity=2, resultclass=Result).run(suite)
    with open(text, encoding="utf-8") as human:
        lines = human.read().splitlines()
    print("\n".join(lines[-200:]))
    if not result.testsRun:
        sys.exit("no test was found")
    if not result.wasSuccessful():
        broken = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
        sys.exit("%d of %d tests failed" % (broken, result.testsRun))


main()
