"""Runs the built program. Every e2e test file begins with `from hob import *`.

usage of each test file: NAME_test.py HOB DATA [unittest arguments]
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

HOB = os.path.abspath(sys.argv[1])
DATA = pathlib.Path(os.path.abspath(sys.argv[2]))
MOE = DATA / "model" / "mixtral-Q4_K_M.gguf"
SANITIZERS = os.environ.get("HOB_SANITIZE", "")  # of the build, as for -fsanitize=
TIMEOUT_S = 120  # sanitizer builds on a busy machine are slow; a hang is a failure


def hob(*args, stdin=b"", env=None, timeout=TIMEOUT_S):
    """Runs hob with text arguments; returns the completed process with bytes in stdout and stderr."""
    environment = dict(os.environ, **(env or {}))
    return subprocess.run([HOB, *map(str, args)], input=stdin, capture_output=True, env=environment, timeout=timeout)


class HobTest(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.tmp = pathlib.Path(holder.name)

    def ok(self, *args, **kwargs):
        """Runs hob, which must succeed; returns stdout as text."""
        done = hob(*args, **kwargs)
        self.assertEqual(done.returncode, 0, f"{args}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode()

    def json_lines(self, *args, **kwargs):
        return [json.loads(line) for line in self.ok(*args, "--json", **kwargs).splitlines()]

    def refused(self, code, expect, *args, **kwargs):
        """hob must end with `code` and exactly one line `hob: [where] ...` on stderr that contains `expect`."""
        done = hob(*args, **kwargs)
        error = done.stderr.decode(errors="replace")
        self.assertEqual(done.returncode, code, f"{args}: {error}")
        self.assertEqual(len(error.splitlines()), 1, f"{args}: {error}")
        self.assertRegex(error, r"^hob: \[[a-z0-9_ -]+\] ")
        self.assertIn(expect, error)
        self.assertEqual(done.stdout, b"")
        return error


def main():
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
