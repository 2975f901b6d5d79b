"""tools/wanrelay between two network namespaces of this machine. HOB_WANRELAY: the built relay.

Upper bounds on time never decide here: the machine may be busy.
"""
import atexit
import contextlib
import ctypes
import random
import shutil
import signal
import socket
import struct
import threading
import time

from hob import *

WANRELAY = os.environ["HOB_WANRELAY"]
LEFT_IP, RIGHT_IP, PORT = "10.9.0.1", "10.9.0.2", 4000
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


PR_SET_PDEATHSIG = 1


def ip(*args):
    return subprocess.run(["ip", *args], capture_output=True, text=True)


def remove_left_spaces():
    """Of this test, and of those that were killed before they could."""
    for space in pathlib.Path("/var/run/netns").glob("hob-test-*-*"):
        pid = space.name.split("-")[2]
        if pid == str(os.getpid()) or not pathlib.Path("/proc", pid).exists():
            ip("netns", "del", space.name)


def end_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.contextmanager
def inside(space):
    """This thread in a namespace: sockets belong for good to the one they were made in."""
    def enter(path):
        with open(path) as f:
            if LIBC.setns(f.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"setns {path}")
    with open("/proc/thread-self/ns/net") as own:
        enter(f"/var/run/netns/{space}")
        try:
            yield
        finally:
            if LIBC.setns(own.fileno(), CLONE_NEWNET) != 0:
                os.abort()


def serve_echo(listener):
    """Everything back to one client, until it closes."""
    def echo():
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := connection.recv(1 << 16):
                connection.sendall(data)
    threading.Thread(target=echo, daemon=True).start()


def receive(connection, n):
    data = bytearray()
    while len(data) < n:
        part = connection.recv(n - len(data))
        if not part:
            raise AssertionError(f"expected {n} bytes, the connection ended after {len(data)}")
        data += part
    return bytes(data)


def round_trip_s(connection, message):
    start = time.monotonic()
    connection.sendall(message)
    if receive(connection, len(message)) != message:
        raise AssertionError("expected the bytes that were sent")
    return time.monotonic() - start


class Usage(HobTest):
    """Needs no rights."""

    def refused(self, code, expect, *args):
        done = subprocess.run([WANRELAY, *args], capture_output=True, text=True, timeout=TIMEOUT_S)
        self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)
        self.assertRegex(done.stderr, r"^wanrelay: \[[a-z]+\] [^\n]+\n$")
        self.assertIn(expect, done.stderr)

    def test_errors_are_one_line(self):
        self.refused(2, "expected --left and --right")
        self.refused(2, "expected two namespaces", "--left", "a", "--right", "a")
        self.refused(2, "--delay", "--left", "a", "--right", "b", "--delay", "-1")
        self.refused(2, "see 'wanrelay --help'", "--no-such-option")
        self.refused(2, "got 'jump'", "--control", "x", "--send", "jump")
        self.refused(1, "no-such-space", "--left", "no-such-space", "--right", "b")
        self.refused(1, "expected a relay", "--control", str(self.tmp / "none"), "--send", "stats")


class Relay(HobTest):
    def setUp(self):
        super().setUp()
        if shutil.which("ip") is None:
            self.skipTest("needs the program ip (which ip; scripts/deps.sh test installs it)")
        self.left, self.right = (f"hob-test-{os.getpid()}-{side}" for side in ["left", "right"])
        for space in [self.left, self.right]:
            self.addCleanup(ip, "netns", "del", space)  # before it is made: making may stop half-way
            self.need("ip", "netns", "add", space)
        self.need("ip", "-n", self.left, "tuntap", "add", "dev", "probe0", "mode", "tun")
        self.control = self.tmp / "control"
        self.relay = None

    def need(self, *command):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            self.skipTest("needs the right to make network namespaces and TUN devices (as root, try: "
                          f"{' '.join(command)}); it says: {done.stderr.strip()}")

    def start(self, *args):
        self.relay = subprocess.Popen(
            [WANRELAY, "--left", self.left, "--right", self.right, "--left-ip", LEFT_IP, "--right-ip", RIGHT_IP,
             "--control", str(self.control), *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=end_with_parent)
        self.addCleanup(self.kill)
        line = self.relay.stderr.readline()
        self.assertRegex(line, r"^wanrelay: .* <-> ")

    def kill(self):
        if self.relay.poll() is None:
            self.relay.kill()
        self.relay.wait()
        self.relay.stdout.close()
        self.relay.stderr.close()

    def tell(self, command):
        done = subprocess.run([WANRELAY, "--control", self.control, "--send", command], capture_output=True, text=True,
                              timeout=TIMEOUT_S)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def stats(self):
        return json.loads(self.tell("stats"))

    def echo(self):
        """A client's connection on the left to an echo server on the right."""
        with inside(self.right):
            listener = socket.create_server((RIGHT_IP, 0))
        self.addCleanup(listener.close)
        serve_echo(listener)
        with inside(self.left):
            connection = socket.socket()
        self.addCleanup(connection.close)
        connection.settimeout(TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.connect(listener.getsockname())
        return connection

    def check_sums(self, stats):
        for side in ["up", "down"]:
            s = stats[side]
            self.assertEqual(s["packets"], s["delivered"] + s["in_flight"] + sum(s["dropped"].values()), stats)
            self.assertEqual(s["delivered"], sum(n for _, n in s["delay_ms"]["histogram"]), stats)

    def test_bytes_arrive_intact_and_never_early(self):
        self.start("--delay", "7", "--jitter", "2", "--up", "50M", "--down", "200M")
        connection = self.echo()
        for _ in range(20):
            self.assertGreaterEqual(round_trip_s(connection, b"x" * 200), .014)
        self.tell("delay up 20")
        self.assertGreaterEqual(round_trip_s(connection, b"x"), .027)
        # 50 Mbit/s: more than 40 ms for 250 kB, whatever the machine.
        self.assertGreaterEqual(round_trip_s(connection, random.Random(1).randbytes(250_000)), .04 + .027)
        stats = self.stats()
        self.check_sums(stats)
        self.assertGreaterEqual(stats["up"]["delay_ms"]["min"], 7)
        self.assertGreaterEqual(stats["down"]["delay_ms"]["min"], 7)
        self.assertGreaterEqual(stats["up"]["late_ms"]["min"], 0)

    def test_an_outage_lets_nothing_through_and_the_connection_survives_it(self):
        self.start("--delay", "1")
        connection = self.echo()
        round_trip_s(connection, b"before")
        for side in ["both", "up", "down"]:
            with self.subTest(side=side):
                self.assertEqual(self.tell(f"drop {side} forever"), "ok")
                before = self.stats()
                connection.sendall(b"during")
                connection.settimeout(1)
                with self.assertRaises(TimeoutError):
                    connection.recv(1)
                after = self.stats()
                for way in ["up", "down"] if side == "both" else [side]:
                    self.assertEqual(after[way]["delivered"], before[way]["delivered"])
                cut = "down" if side == "down" else "up"
                self.assertGreater(after[cut]["dropped"]["outage"], before[cut]["dropped"]["outage"])
                self.assertEqual(self.tell("restore"), "ok")
                connection.settimeout(TIMEOUT_S)
                self.assertEqual(receive(connection, 6), b"during")
        self.tell("drop both 0.5")  # ends by itself
        self.assertGreater(round_trip_s(connection, b"after"), 0)
        self.check_sums(self.stats())

    def test_packets_on_their_way_are_lost_in_an_outage_too(self):
        self.start("--delay", "2000")
        sender, receiver = self.datagrams()
        sender.sendto(b"before", (RIGHT_IP, PORT))
        while self.stats()["up"]["packets"] == 0:
            time.sleep(.01)
        self.tell("drop up forever")
        while self.stats()["up"]["in_flight"] > 0:
            time.sleep(.01)
        self.tell("restore")
        self.tell("delay 0")
        sender.sendto(b"after", (RIGHT_IP, PORT))
        self.assertEqual(receiver.recv(100), b"after")

    def datagrams(self):
        with inside(self.left):
            sender = socket.socket(type=socket.SOCK_DGRAM)
        with inside(self.right):
            receiver = socket.socket(type=socket.SOCK_DGRAM)
        self.addCleanup(sender.close)
        self.addCleanup(receiver.close)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)  # the tests read late
        receiver.bind((RIGHT_IP, PORT))
        receiver.settimeout(TIMEOUT_S)
        return sender, receiver

    def lost_of(self, seed):
        """Which of 300 datagrams do not arrive; those that do are in order."""
        self.start("--loss", "20,0", "--delay", "1", "--jitter", "3", "--seed", seed)
        sender, receiver = self.datagrams()
        for i in range(300):
            sender.sendto(struct.pack("<i", i), (RIGHT_IP, PORT))
        while (s := self.stats()["up"])["packets"] < 300 or s["in_flight"] > 0:
            time.sleep(.01)
        came = [struct.unpack("<i", receiver.recv(100))[0] for _ in range(s["delivered"])]
        self.assertEqual(came, sorted(came))
        receiver.close()
        self.relay.terminate()
        self.relay.wait(TIMEOUT_S)
        self.kill()
        return set(range(300)) - set(came)

    def test_the_seed_decides_which_packets_are_lost(self):
        first = self.lost_of(1)
        self.assertTrue(30 < len(first) < 100, first)
        self.assertEqual(self.lost_of(1), first)
        self.assertNotEqual(self.lost_of(2), first)

    def test_a_transfer_with_loss_is_intact(self):
        self.start("--delay", "2", "--jitter", "1", "--loss", "5", "--queue", "64K", "--up", "200M", "--down", "200M")
        connection = self.echo()
        data = random.Random(2).randbytes(1 << 20)
        sender = threading.Thread(target=connection.sendall, args=[data])
        sender.start()
        self.assertTrue(receive(connection, len(data)) == data)
        sender.join()
        stats = self.stats()
        self.check_sums(stats)
        self.assertGreater(stats["up"]["dropped"]["loss"], 0)
        self.assertGreater(stats["down"]["dropped"]["loss"], 0)

    def test_a_signal_ends_it_cleanly(self):
        for end in [signal.SIGINT, signal.SIGTERM]:
            self.start("--spin", "--delay", "1")
            round_trip_s(self.echo(), b"x")
            self.relay.send_signal(end)
            out, err = self.relay.communicate(timeout=TIMEOUT_S)
            self.assertEqual((self.relay.returncode, err), (0, ""))
            self.check_sums(json.loads(out))
            self.assertFalse(self.control.exists())
            self.assertNotIn("wan0", ip("-n", self.left, "link").stdout)

    def test_the_control_socket_survives_bad_clients(self):
        self.start()
        with socket.socket(socket.AF_UNIX) as half, socket.socket(socket.AF_UNIX) as s:
            half.connect(str(self.control))
            half.sendall(b"sta")  # and nothing more
            s.settimeout(TIMEOUT_S)
            s.connect(str(self.control))
            s.sendall(b"jump\nrestore\n\xff\n")
            reply = s.makefile("rb")
            self.assertRegex(reply.readline(), rb"^error: \[control\] expected .* got 'jump'\n$")
            self.assertEqual(reply.readline(), b"ok\n")
            self.assertIn(b"error", reply.readline())
            s.sendall(b"x" * 5000)
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(reply.readline(), b"")  # closed: no command is so long
        self.assertIn('"up"', self.tell("stats"))

    def test_what_is_at_the_control_path_decides(self):
        busy = lambda: subprocess.run([WANRELAY, "--left", self.left, "--right", self.right, "--device", "other",
                                       "--control", self.control], capture_output=True, text=True, timeout=TIMEOUT_S)
        self.control.write_text("somebody's file")
        done = busy()
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(self.control.read_text(), "somebody's file")
        self.control.unlink()
        self.start()
        done = busy()
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("expected a free path", done.stderr)
        self.kill()  # leaves its socket behind
        self.assertTrue(self.control.exists())
        self.start()
        self.assertIn('"up"', self.tell("stats"))


remove_left_spaces()
atexit.register(remove_left_spaces)  # for Ctrl-C, after which no clean-up of a test runs
main()
