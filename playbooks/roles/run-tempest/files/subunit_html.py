"""Make a page (PAGE, gzipped HTML) of the test results in a subunit v2 stream (STREAM). Needs python-subunit and testtools, as stestr does.

usage: subunit_html.py STREAM PAGE
"""
import gzip
import html
import sys

import subunit
import testtools

GOOD = {"success": "passed", "xfail": "passed", "skip": "skipped"}
STYLE = "body{font:14px sans-serif}td{padding:2px 8px;vertical-align:top}.failed{background:#fdd}.skipped{color:#777}pre{white-space:pre-wrap}"


def main():
    stream, page = sys.argv[1:]
    tests = []

    def keep(test):
        if test["status"] not in ("exists", "unknown"):
            tests.append(test)

    with open(stream, "rb") as source:
        result = testtools.StreamToDict(keep)
        result.startTestRun()
        subunit.ByteStreamToStreamResult(source, non_subunit_name="stdout").run(result)
        result.stopTestRun()
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    rows = []
    # What failed first, then by name.
    for test in sorted(tests, key=lambda test: (test["status"] in GOOD, test["id"] or "")):
        word = GOOD.get(test["status"], "failed")
        counts[word] += 1
        begin, end = test["timestamps"]
        took = "%.1f s" % (end - begin).total_seconds() if begin and end else ""
        detail = ""
        if word != "passed":
            texts = [content.as_text() for content in test["details"].values() if content.content_type.type == "text"]
            detail = "<pre>%s</pre>" % html.escape("\n".join(texts)[:100000])
        rows.append('<tr class="%s"><td>%s<td>%s<td>%s%s' % (word, word, took, html.escape(test["id"] or "?"), detail))
    title = ", ".join("%d %s" % (count, word) for word, count in counts.items())
    with gzip.open(page, "wt", encoding="utf-8") as out:
        out.write('<!doctype html><meta charset="utf-8"><title>%s</title><style>%s</style><h1>%s</h1><table>\n' % (title, STYLE, title))
        out.write("\n".join(rows))
        out.write("\n</table>\n")


main()
