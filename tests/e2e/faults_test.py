"""Faults around the server: docs/faults.md says which items are tested where."""
import resource
import shutil
import signal
import socket
import struct

from server import *

LONG = {"prompt": "x", "max_tokens": 2000, "ignore_eos": True}


def preloaded(fault, **environment):
    """The environment for a fault of tests/e2e/preload."""
    library = pathlib.Path(os.environ["HOB_PRELOAD"]) / f"{fault}.so"
    assert library.exists(), library
    return {"LD_PRELOAD": str(library), "ASAN_OPTIONS": "verify_asan_link_order=0", **environment}


def cpu_s(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Item37(HobTest):
    def test_no_file_descriptors_left(self):
        """Connections that say nothing give way; the server neither dies nor spins."""
        few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        server = (Server(self, env=preloaded("few_descriptors")) if "undefined" in SANITIZERS else
                  Server(self, before_start=few))
        silent = []
        for _ in range(200):
            s = socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S)
            self.addCleanup(s.close)
            silent.append(s)
        self.assertEqual(server.ask("GET", "/health")[0], 200)
        self.assertEqual(server.ask("POST", "/v1/chat/completions", CHAT)[0], 200)
        before, start = cpu_s(server.process), time.monotonic()
        time.sleep(2)
        self.assertLess(cpu_s(server.process) - before, 0.5 * (time.monotonic() - start))
        [s.close() for s in silent]
        self.assertEqual(server.ask("POST", "/v1/chat/completions", CHAT)[0], 200)

    def start_with(self, n_threads):
        """Starts a server that can make so many threads, and stops it when it serves. Its exit code, the lines of its
        stderr, whether it served."""
        process = subprocess.Popen([HOB, "serve", str(TINY), "--port", "0", "--expert-cache", "100K", "--threads", "2"],
                                   stderr=subprocess.PIPE, text=True,
                                   env=dict(os.environ, XDG_RUNTIME_DIR=str(self.tmp),
                                            **preloaded("no_thread", THREADS_LEFT=str(n_threads))))
        hang = threading.Timer(TIMEOUT_S, process.kill)
        hang.start()
        lines, served = [], False
        for line in process.stderr:
            lines.append(line)
            if "hob: serving" in line:
                served = True
                process.terminate()
        process.stderr.close()
        code = process.wait()
        hang.cancel()
        return code, lines, served

    def test_no_thread_can_be_made(self):
        """Whichever of its threads cannot be made, the server ends with exit code 1 and a line that says so."""
        n, served = 0, False
        while not served:
            code, lines, served = self.start_with(n)
            with self.subTest(threads=n):
                self.assertEqual(code, 0 if served else 1, lines)
                if not served:
                    self.assertRegex(lines[-1], r"^hob: \[.*thread")
            n += 1
        self.assertGreater(n, 4)  # HTTP, loader, compute, engine

    def busy(self, server):
        """One request that is running; its reply comes into the list."""
        replies = []
        thread = threading.Thread(target=lambda: replies.append(server.ask("POST", "/v1/completions", LONG)))
        thread.start()
        self.addCleanup(thread.join)
        server.until(lambda: server.metric("vllm:num_requests_running") == 1, "a request that runs")
        return replies, thread

    def test_sighup_drains(self):
        server = Server(self, ctx=2048 + 64)
        replies, thread = self.busy(server)
        server.process.send_signal(signal.SIGHUP)
        thread.join()
        self.assertEqual(replies[0][0], 200)
        self.assertEqual(server.process.wait(TIMEOUT_S), 0)

    def test_sighup_under_nohup_is_ignored(self):
        server = Server(self, before_start=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        server.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        self.assertEqual(server.ask("POST", "/v1/chat/completions", CHAT)[0], 200)

    def test_sigpipe(self):
        """Clients that reset their connection in the middle of a stream: writes fail, nothing else does."""
        server = Server(self, ctx=2048 + 64)
        body = json.dumps(dict(LONG, stream=True)).encode()
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S) as s:
                s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                          b"Content-Length: %d\r\n\r\n" % len(body) + body)
                s.recv(1)
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.assertEqual(server.ask("GET", "/health")[0], 200)
        server.until(lambda: server.metric("vllm:num_requests_running") == 0, "no request that runs")


class Item38(HobTest):
    def test_the_wall_clock_jumps_by_days(self):
        """Time limits are of the monotonic clock: none strikes early, none never."""
        env = preloaded("jumping_clock")
        server = Server(self, "--request-timeout", "60", env=env)
        dates = set()
        for i in range(10):
            status, headers, reply = server.ask("POST", "/v1/chat/completions", dict(CHAT, stream=i % 2 == 0))
            self.assertEqual(status, 200, reply)
            dates.add(headers["Date"][:16])
        self.assertGreater(len(dates), 1, "the clock did not jump")
        short = Server(self, "--request-timeout", "1", ctx=1 << 16, env=env)
        start = time.monotonic()
        body = {"prompt": "x", "max_tokens": 65000, "ignore_eos": True}
        self.assertEqual(short.ask("POST", "/v1/completions", body)[0], 504)
        self.assertLess(time.monotonic() - start, 30)


class Item40(HobTest):
    def cached(self, server, **more):
        body = {"prompt": "The same long beginning. " * 5, "max_tokens": 1, **more}
        status, _, reply = server.ask("POST", "/v1/completions", body)
        self.assertEqual(status, 200, reply)
        return reply["usage"]["prompt_tokens_details"]["cached_tokens"]

    def test_salts_are_apart(self):
        server = Server(self)
        self.assertEqual(self.cached(server, cache_salt="a"), 0)
        self.assertGreater(self.cached(server, cache_salt="a"), 0)
        self.assertEqual(self.cached(server, cache_salt="b"), 0)
        self.assertEqual(self.cached(server), 0)


class Item46(HobTest):
    def test_lost_experts_end_requests_not_the_server(self):
        """Each answer is right or a 500 that says why."""
        server = Server(self, "--expert-cache", "100K", "--inject-faults", "0.002:3")
        body = dict(CHAT, max_tokens=32, ignore_eos=True)
        answers, failures = set(), 0
        for _ in range(60):
            status, _, reply = server.ask("POST", "/v1/chat/completions", body)
            if status == 200:
                answers.add(reply["choices"][0]["message"]["content"])
                continue
            self.assertEqual(status, 500, reply)
            self.assertIn("injected fault", reply["error"]["message"])
            failures += 1
        self.assertEqual(len(answers), 1)
        self.assertGreater(failures, 0)
        self.assertGreaterEqual(server.metric("hob:expert_read_errors_total"), failures)
        self.assertEqual(server.metric("vllm:kv_cache_usage_perc"), 0)


QEMU = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")


@unittest.skipUnless(os.uname().machine == "x86_64", "is about x86-64 (uname -m)")
@unittest.skipIf(SANITIZERS, f"the emulator has no room for a sanitizer's shadow memory (try: {QEMU} {HOB} --version); "
                 "HOB_PRESET=release scripts/test.sh -R e2e.faults runs it, and so does scripts/check.sh")
class Item44(HobTest):
    """scripts/deps.sh cross installs the emulator. Processors without AVX-512, without AVX2: the program chooses other kernels instead of dying of SIGILL."""

    def tokens(self, *command):
        done = subprocess.run([*command, "run", str(MOE), "--raw", "-p", "Hello", "-n", "4", "--temp", "0", "--threads", "1",
                               "--quiet"],
                              capture_output=True, timeout=TIMEOUT_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_other_processors(self):
        here = self.tokens(HOB)
        for cpu in ["Haswell", "Nehalem"]:
            with self.subTest(cpu):
                self.assertEqual(self.tokens(QEMU, "-cpu", cpu, HOB), here)


main()
