"""Fetch a patch set and the changes that it depends on, and merge them onto the heads of their branches.

It runs on the operator's machine, and reads one JSON object from stdin: `folder` (empty, for the results), `mode` (`merge` or
`checkout`), `servers` (base URLs, tried in turn), `retries`, `delay` (seconds), `depth` (commits below a patch set; 0 for all),
`dest` and `others`: where the tested project's tree and those of others go on the node, and
`items`: the changes in the order in which they apply, the tested one last, each with `kind`, `project`, `branch`, `change`,
`patchset`, `ref` and `commit`.

It leaves `trees.tar.gz` in the folder: for each project a bare repository NAME.git whose branch `patchset` is the tree to test. On
stdout it prints what it did, as one JSON object.

Exit status: 0; 3 if something does not merge, then `conflict` in the JSON object says what; 1 for any other failure, which is not the
patch's fault. No program of the patch runs: only git reads it, without hooks and filters.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import time

EXIT_CONFLICT = 3
TREE = "patchset"  # the branch to check out
MAX_FILES = 10  # that a message names

WORD = re.compile(r"^[A-Za-z0-9][A-Za-z0-9/._+@=,#-]*$")
COMMIT = re.compile(r"^[0-9a-f]{40,64}$")

# Fetching uses the operator's own settings, such as proxies. Merging does not: settings could name programs for a patch to start.
PLAIN = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_ATTR_NOSYSTEM": "1"}
IDENTITY = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "pushbutton"), ("EMAIL", "pushbutton@localhost"))
}


class Problem(Exception):
    """Something other than the patch is at fault."""


class Conflict(Exception):
    """Something does not merge."""


def plain(text):
    """A text from a repository, as a word that is safe to show anywhere."""
    return re.sub(r"[^A-Za-z0-9/._+@=,-]", "?", text)[:200]


def label(item):
    return "%s,%s" % (item["change"], item["patchset"])


class Repository:
    def __init__(self, plan, project):
        self.plan, self.project, self.server = plan, project, None
        self.name = project.rsplit("/", 1)[-1]
        self.folder = os.path.join(plan["folder"], self.name + ".git")
        self.work = os.path.join(plan["folder"], "work")
        self.run("init", "--quiet", "--bare", "--template=", self.folder, inside=False)

    def run(self, *words, fine=(0,), inside=True, env=None, work=False):
        command = ["git"]
        if inside:
            command += ["--git-dir", self.folder, "-c", "core.hooksPath=" + os.devnull]
        command += ["--work-tree", self.work] if work else []
        variables = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **(env or {})}
        done = subprocess.run(
            command + list(words), cwd=self.work if work else None, env=variables, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", errors="replace", check=False,
        )
        if fine is not None and done.returncode not in fine:
            raise Problem("git %s: %s" % (words[0], done.stderr.strip() or done.stdout.strip() or done.returncode))
        return done

    def ask(self, *words):
        return self.run(*words).stdout.strip()

    def url(self, server):
        return server.rstrip("/") + "/" + self.project

    def try_servers(self, what, *words):
        """Runs a git command with the first server that has what is wanted. Returns what it printed."""
        problems = []
        for server in [self.server] if self.server else self.plan["servers"]:
            for left in range(int(self.plan["retries"]), -1, -1):
                done = self.run(*[self.url(server) if word is None else word for word in words], fine=None)
                if done.returncode == 0:
                    self.server = server
                    return done.stdout
                if left:
                    time.sleep(float(self.plan["delay"]))
            problems.append("%s: %s" % (server, done.stderr.strip()))
        raise Problem("cannot fetch %s of %s from %s" % (what, self.project, "; ".join(problems)))

    def fetch(self, branches, items):
        """Fetches the heads of branches and the patch sets."""
        depth = int(self.plan["depth"])
        limits = ["--no-tags", "--depth=%d" % (depth + 1)] if depth > 0 else []
        refs = ["+refs/heads/%s:refs/base/%s" % (branch, branch) for branch in branches]
        refs += ["+%s:refs/items/%s" % (item["ref"], item["change"]) for item in items]
        what = ", ".join([item["ref"] for item in items] + branches)
        self.try_servers(what, "fetch", "--quiet", *limits, "--", None, *refs)
        for item in items:
            commit = self.ask("rev-parse", "refs/items/%s" % item["change"])
            if commit != item["commit"]:
                raise Problem("%s is %s, not %s" % (item["ref"], commit, item["commit"]))

    def has_branch(self, branch):
        return bool(self.try_servers(branch, "ls-remote", "--heads", "--", None, "refs/heads/" + branch).strip())

    def is_ancestor(self, commit, head):
        return self.run("merge-base", "--is-ancestor", commit, head, fine=(0, 1)).returncode == 0

    def complete(self):
        """Fetches the rest of the history: the point from which both sides come may be below what was fetched."""
        if self.ask("rev-parse", "--is-shallow-repository") == "true":
            self.try_servers("the history", "fetch", "--quiet", "--no-tags", "--unshallow", "--", None)

    def merge(self, head, item):
        """Merges a patch set onto a commit. Returns the new head, and how it came about."""
        commit = item["commit"]
        for attempt in (1, 2):
            if self.is_ancestor(commit, head):
                return head, "is in the branch already"
            if self.is_ancestor(head, commit):
                return commit, "fast-forward"
            if attempt == 1:
                self.complete()
        title = "%s of %s does not merge with %s" % (label(item), self.project, item["branch"])
        if self.run("merge-base", head, commit, fine=(0, 1)).returncode == 1:
            raise Conflict("%s: they have no common history" % title)
        shutil.rmtree(self.work, ignore_errors=True)
        os.mkdir(self.work)
        # The same merge of the same commits is the same commit, on every machine.
        date = "@%d +0000" % max(1, int(self.ask("show", "--no-patch", "--format=%ct", commit)))
        env = {**PLAIN, **IDENTITY, "GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        self.run("update-ref", "--no-deref", "HEAD", head)
        self.run("read-tree", "--reset", "-u", head, work=True, env=env)
        message = "Merge change %s into %s" % (label(item), item["branch"])
        done = self.run("merge", "--quiet", "--no-ff", "--no-edit", "-m", message, commit, work=True, env=env, fine=None)
        if done.returncode != 0:
            files = self.run("diff", "--name-only", "--diff-filter=U", "-z", work=True, env=env).stdout.split("\0")
            files = sorted({plain(file) for file in files if file})
            if not files:
                raise Problem("git merge: " + (done.stderr.strip() or done.stdout.strip()))
            more = ", and %d more" % (len(files) - MAX_FILES) if len(files) > MAX_FILES else ""
            raise Conflict("%s at %s: conflict in %s%s" % (title, head[:12], ", ".join(files[:MAX_FILES]), more))
        return self.ask("rev-parse", "HEAD"), "merged"


def check(plan):
    if plan["mode"] not in ("merge", "checkout"):
        raise Problem("checkout_patchset_mode is %s: it must be merge or checkout" % plan["mode"])
    if not plan["servers"] or not plan["servers"][0]:
        raise Problem("set checkout_patchset_url to the base URL of the git repositories")
    for item in plan["items"]:
        for key in ("project", "branch", "ref"):
            if not WORD.match(item[key]) or ".." in item[key]:
                raise Problem("%s is no plain word: %s" % (key, plain(item[key])))
        if not COMMIT.match(item["commit"]) or not item["ref"].startswith("refs/"):
            raise Problem("%s %s is no patch set" % (plain(item["ref"]), plain(item["commit"])))


def prepare(plan, project):
    """Makes the tree of a project. Returns what it is made of."""
    own = plan["items"][-1]
    items = [item for item in plan["items"] if item["project"] == project]
    is_own = project == own["project"]
    branches = list(dict.fromkeys(item["branch"] for item in items))
    repository = Repository(plan, project)
    # As Zuul: the branch of the tested change where the project has it.
    if own["branch"] in branches:
        branch = own["branch"]
    elif plan["mode"] == "merge" and repository.has_branch(own["branch"]):
        branch = own["branch"]
        branches.append(branch)
    else:
        branch = branches[0]
    merges = plan["mode"] == "merge"
    repository.fetch(branches if merges else [], items)
    heads = {name: repository.ask("rev-parse", "refs/base/" + name) for name in branches} if merges else {}
    base = heads.get(branch)
    done = []
    for item in items:
        if merges:
            heads[item["branch"]], how = repository.merge(heads[item["branch"]], item)
        else:
            heads[item["branch"]], how = item["commit"], "checked out"
        if item["branch"] != branch:
            how += ", but the tree is on %s" % branch
        done.append({**item, "how": how})
    shutil.rmtree(repository.work, ignore_errors=True)
    for name, head in heads.items():
        repository.run("update-ref", "refs/heads/" + name, head)
    repository.run("update-ref", "refs/heads/" + TREE, heads[branch])
    repository.run("symbolic-ref", "HEAD", "refs/heads/" + TREE)
    return {
        "project": project, "name": repository.name, "branch": branch, "base": base, "head": heads[branch], "items": done,
        "place": plan["dest"] if is_own else plan["others"] + "/" + repository.name,
    }


def describe(trees):
    """The lines about the trees for people."""
    lines = []
    for tree in trees:
        onto = " onto %s" % tree["base"] if tree["base"] else ""
        lines.append("tested %s: %s, branch %s%s" % (tree["project"], tree["head"], tree["branch"], onto))
        for item in tree["items"]:
            lines.append("    change %s (%s) %s: %s" % (label(item), item["kind"], item["commit"], item["how"]))
    return lines


def main():
    plan = json.load(sys.stdin)
    try:
        check(plan)
        own = plan["items"][-1]["project"]
        projects = list(dict.fromkeys([own] + [item["project"] for item in plan["items"]]))
        names = [project.rsplit("/", 1)[-1] for project in projects]
        if len(set(names)) < len(names):
            raise Problem("two projects have the same folder: %s" % ", ".join(projects))
        trees = [prepare(plan, project) for project in projects]
        folders = [tree["name"] + ".git" for tree in trees]
        pack = os.path.join(plan["folder"], "trees.tar.gz")
        subprocess.run(["tar", "-czf", pack, "-C", plan["folder"], *folders], check=True)
    except Conflict as conflict:
        print(json.dumps({"conflict": str(conflict)}))
        return EXIT_CONFLICT
    except (Problem, OSError, subprocess.SubprocessError) as problem:
        # As git printed it, for `retry_when`; then as one line, which is the last one that looks like an error.
        print(problem, file=sys.stderr)
        print("ERROR: " + " ".join(str(problem).split()), file=sys.stderr)
        return 1
    print(json.dumps({"trees": trees, "text": describe(trees)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
