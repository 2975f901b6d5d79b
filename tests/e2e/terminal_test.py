"""Pipes, signals and the chat prompt on a pseudo-terminal."""
import pty
import re
import select
import signal
import time
import unittest

from hob import *

LONG = ["--raw", "--ctx", "200000", "--ignore-eos"]  # until something stops it


class Pipes(HobTest):
    def test_prompt_from_stdin(self):
        piped = self.ok("run", MOE, "--raw", "--temp", 0, "-n", 8, stdin=b"hello\n")
        self.assertEqual(piped, self.ok("run", MOE, "--raw", "--temp", 0, "-n", 8, "-p", "hello"))

    def test_prompt_from_file(self):
        path = self.tmp / "prompt"
        path.write_bytes(b"hello")
        self.assertEqual(self.ok("run", MOE, "--raw", "--temp", 0, "-n", 8, "-f", path),
                         self.ok("run", MOE, "--raw", "--temp", 0, "-n", 8, "-p", "hello"))
        self.refused(1, "directory", "run", MOE, "--raw", "-f", self.tmp)

    def test_empty_stdin(self):
        self.refused(2, "empty", "run", MOE, "--raw")

    def test_last_line_has_the_numbers(self):
        done = hob("run", MOE, "--raw", "-n", 8, "-p", "hello")
        last = done.stderr.decode().splitlines()[-1]
        self.assertRegex(last, r"tok/s, hit rate .*/token, peak memory .*, seed \d+")
        seed = re.search(r"seed (\d+)", last).group(1)
        self.assertEqual(hob("run", MOE, "--raw", "-n", 8, "-p", "hello", "--seed", seed).stdout, done.stdout)
        self.assertEqual(hob("run", MOE, "--raw", "-n", 8, "-p", "hello", "--quiet").stderr, b"")

    def test_json_is_one_line_of_valid_utf8(self):
        answer = self.json_lines("run", MOE, "--raw", "-n", 40, "-p", "hello", "--temp", 2)[0]
        self.assertEqual(answer["n_tok"], len(answer["tokens"]))
        self.assertIn(answer["finish"], ["length", "stop"])
        self.assertLessEqual(answer["n_tok"], 40)

    def test_text_is_valid_utf8(self):
        """The tiny vocabulary is mostly raw bytes: random answers are broken UTF-8 unless the detokeniser mends them."""
        for seed in range(4):
            hob("run", MOE, "--raw", "-n", 60, "-p", "hello", "--temp", 3, "--seed", seed).stdout.decode()

    def test_reader_that_leaves(self):
        process = subprocess.Popen([HOB, "run", MOE, "-p", "hello", "--quiet", *LONG], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertTrue(process.stdout.read(1))
        process.stdout.close()
        error = process.stderr.read()
        process.stderr.close()
        self.assertEqual(process.wait(TIMEOUT_S), 0)
        self.assertEqual(error, b"")

    def test_full_disk(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("needs a device that is always full: no /dev/full here (ls /dev/full)")
        with open("/dev/full", "wb") as full:
            done = subprocess.run([HOB, "show", MOE], stdout=full, stderr=subprocess.PIPE, timeout=TIMEOUT_S)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"[stdout]", done.stderr)


class CtrlC(HobTest):
    def test_stops_the_answer(self):
        process = subprocess.Popen([HOB, "run", MOE, "-p", "hello", "--quiet", *LONG], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertTrue(process.stdout.read(1))
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=TIMEOUT_S)
        self.assertEqual(process.returncode, 1)
        self.assertIn(b"interrupted", error)


class Terminal:
    """hob on a pseudo-terminal."""

    def __init__(self, home, *args):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm", HOME=str(home), XDG_STATE_HOME=str(home))
            os.execv(HOB, [HOB, *map(str, args)])
        self.seen = ""

    def expect(self, text):
        """Reads until `text` comes; returns what came before it."""
        deadline = time.time() + TIMEOUT_S
        while text not in self.seen:
            if time.time() > deadline:
                raise AssertionError(f"no {text!r} in {self.seen!r}")
            if select.select([self.fd], [], [], 1)[0]:
                try:
                    self.seen += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:
                    raise AssertionError(f"hob left before {text!r}: {self.seen!r}")
        before, self.seen = self.seen.split(text, 1)
        return before

    def send(self, text):
        os.write(self.fd, text.encode())

    def wait(self):
        """Exit status; reads on so that the program is never blocked on its output."""
        deadline = time.time() + TIMEOUT_S
        while time.time() < deadline:
            try:
                if select.select([self.fd], [], [], 0.1)[0]:
                    self.seen += os.read(self.fd, 65536).decode(errors="replace")
            except OSError:
                pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
        raise AssertionError("hob does not leave")


def has_terminals():
    try:
        for fd in pty.openpty():
            os.close(fd)
        return True
    except OSError:
        return False


@unittest.skipUnless(has_terminals(), "needs pseudo-terminals: /dev/pts is not mounted (mount | grep devpts)")
class Chat(HobTest):
    def start(self, *args):
        terminal = Terminal(self.tmp, "run", MOE, *args)
        terminal.expect(">>> ")
        return terminal

    def test_answers_and_bye(self):
        t = self.start("--raw", "-n", "5", "--temp", "0")
        t.send("hello\n")
        t.expect("tok/s")
        t.expect(">>> ")
        t.send("/help\n")
        t.expect("/clear")
        t.expect(">>> ")
        t.send("/context\n")
        t.expect("tokens")
        t.expect(">>> ")
        t.send("/bye\n")
        self.assertEqual(t.wait(), 0)
        self.assertIn("hello", (self.tmp / "hob" / "history").read_text())

    def test_several_lines(self):
        t = self.start("--raw", "-n", "5", "--temp", "0")
        t.send('"""first\n')
        t.expect("... ")
        t.send('second"""\n')
        t.expect("tok/s")
        t.expect(">>> ")
        t.send("\x04")
        self.assertEqual(t.wait(), 0)

    def test_ctrl_c_stops_the_answer_and_not_the_program(self):
        t = self.start(*LONG)
        t.send("hello\n")
        t.expect("t")  # some output
        time.sleep(0.5)
        t.send("\x03")
        t.expect("cancelled")
        t.expect(">>> ")
        t.send("/context\n")
        t.expect("tokens")
        t.expect(">>> ")
        t.send("\x03")
        t.expect("again")  # the hint
        t.expect(">>> ")
        t.send("\x03")
        self.assertEqual(t.wait(), 0)

    def test_bad_message_does_not_end_the_chat(self):
        t = self.start("--raw", "--ctx", "8", "-n", "2")
        t.send("t1 t2 t3 t4 t5 t6 t7 t8 t9 t10\n")
        t.expect("[context]")
        t.expect(">>> ")
        t.send("/bye\n")
        self.assertEqual(t.wait(), 0)


main()
