# SPDX-License-Identifier: Apache-2.0
"""etcfs_load.py SECONDS SEED A B C: changes the mounts A and B of one prefix at random,
two threads each, on few names; then waits until both, and C, which nobody touched,
show the same tree. Says what differs."""
import errno
import os
import random
import sys
import threading
import time

DEADLINE = 20


class Worker(threading.Thread):
    """Does one random thing after another; that many fail is part of it."""

    def __init__(self, root, seed, end):
        super().__init__(daemon=True)
        self.root, self.random, self.end = root, random.Random(seed), end
        self.ops, self.errors = 0, set()

    def path(self):
        depth = self.random.randint(1, 3)
        return os.path.join(self.root, *(self.random.choice("abc") for _ in range(depth)))

    def write(self, path):
        with open(path, "w") as f:
            f.write(str(self.random.random()) * self.random.randint(1, 3))

    def append(self, path):
        with open(path, "a") as f:
            f.write("x" * self.random.randint(1, 100))

    def change(self, path):
        with open(path, "r+") as f:
            f.seek(2)
            f.write("mm")

    def create(self, path):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640))

    def read(self, path):
        with open(path, "rb") as f:
            f.read()

    def rename(self, path):
        os.rename(path, self.path())

    def chmod(self, path):
        os.chmod(path, self.random.choice([0o600, 0o644, 0o755]))

    def truncate(self, path):
        os.truncate(path, self.random.randint(0, 40))

    def symlink(self, path):
        os.symlink("target", path)

    def run(self):
        things = [self.write, self.write, self.append, self.change, self.create, self.read,
                  self.rename, self.chmod, self.truncate, self.symlink, os.unlink, os.mkdir,
                  os.rmdir, os.listdir, os.lstat]
        while time.monotonic() < self.end:
            try:
                self.random.choice(things)(self.path())
            except OSError as e:
                self.errors.add(e.errno)
            self.ops += 1


def describe(path):
    st = os.lstat(path)
    if os.path.islink(path):
        return oct(st.st_mode), os.readlink(path)
    if os.path.isdir(path):
        return oct(st.st_mode), None
    with open(path, "rb") as f:
        return oct(st.st_mode), st.st_size, f.read()


def tree(root):
    shown = {}
    for where, dirs, files in os.walk(root):
        for name in dirs + files:
            path = os.path.join(where, name)
            try:
                shown[os.path.relpath(path, root)] = describe(path)
            except OSError as e:
                shown[os.path.relpath(path, root)] = errno.errorcode[e.errno]
    return shown


def main():
    seconds, seed, roots = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    end = time.monotonic() + seconds
    workers = [Worker(roots[i % 2], seed * 100 + i, end) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(seconds + DEADLINE)
        if worker.is_alive():
            sys.exit("a thread hangs")
    unexpected = set().union(*(w.errors for w in workers)) & {errno.EIO, errno.ETIMEDOUT}
    if unexpected:
        sys.exit("unexpected: " + ", ".join(errno.errorcode[e] for e in unexpected))
    end = time.monotonic() + DEADLINE
    trees = [tree(root) for root in roots]
    while trees.count(trees[0]) < len(trees) and time.monotonic() < end:
        time.sleep(0.1)
        trees = [tree(root) for root in roots]
    for path in sorted(set().union(*trees)):
        if len({repr(t.get(path)) for t in trees}) > 1:
            print(path, *("\n\t%r" % (t.get(path),) for t in trees))
    if trees.count(trees[0]) < len(trees):
        sys.exit("seed %d: the mounts differ" % seed)
    print(sum(w.ops for w in workers), "operations,", len(trees[0]), "files")


main()
