"""hob serve in a real memory cgroup whose limit is lowered (fault 36): it gives memory back before the kernel takes it."""
import pathlib
import re
import time

from many_experts import with_experts
from server import *

MIB = 1 << 20
N_EXPERTS = 512  # 72 KiB each, two layers: 72 MiB


class Group:
    """A group below this process's own (cgroups v1) or below the root (v2, where inner groups hold no processes)."""

    def __init__(self):
        self.v2, parent = self.find()
        self.folder = parent / f"hob-test-{os.getpid()}"
        self.folder.mkdir()

    @staticmethod
    def find():
        mounts = [line.split() for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
        own = dict(line.split(":", 2)[1:] for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines())
        for m in mounts:
            kind, options = m[m.index("-") + 1], m[-1].split(",")
            if kind == "cgroup" and "memory" in options:
                path = next(p for names, p in own.items() if "memory" in names.split(","))
                below = pathlib.Path(m[4]) / (path[len(m[3].rstrip("/")):] if path.startswith(m[3]) else "").lstrip("/")
                return False, below
        for m in mounts:
            at = pathlib.Path(m[4])
            if m[m.index("-") + 1] == "cgroup2" and "memory" in (at / "cgroup.subtree_control").read_text().split():
                return True, at
        raise OSError("there is no memory controller for groups of our own")

    def write(self, name, value):
        (self.folder / name).write_text(str(value))

    def read(self, name):
        return (self.folder / name).read_text()

    def enter(self):
        self.write("cgroup.procs", os.getpid())

    def set_soft(self, n):
        self.write("memory.high" if self.v2 else "memory.soft_limit_in_bytes", n)

    def set_hard(self, n):
        self.write("memory.max" if self.v2 else "memory.limit_in_bytes", n)

    def used(self):
        """Less what the kernel can drop."""
        key = "inactive_file " if self.v2 else "total_inactive_file "
        dropped = next(int(l.split()[1]) for l in self.read("memory.stat").splitlines() if l.startswith(key))
        return int(self.read("memory.current" if self.v2 else "memory.usage_in_bytes")) - dropped

    def n_killed(self):
        text = self.read("memory.events" if self.v2 else "memory.oom_control")
        return sum(int(l.split()[1]) for l in text.splitlines() if l.startswith("oom_kill "))

    def remove(self):
        self.folder.rmdir()


class Pressure(HobTest):
    def setUp(self):
        super().setUp()
        try:
            self.group = Group()
        except OSError as e:
            self.skipTest(f"needs the right to make a memory cgroup (as root: mkdir under /sys/fs/cgroup): {e}")
        self.addCleanup(self.group.remove)
        self.model = self.tmp / "model.gguf"
        self.model.write_bytes(with_experts(TINY.read_bytes(), N_EXPERTS))
        self.server = Server(self, "--alias", "olmoe", model=self.model, before_start=self.group.enter)

    def text(self, salt):
        """Of prompts that use many experts."""
        prompts = [[(7 * i + k * (i + 3)) % 320 for i in range(200)] for k in range(4)]
        body = {"prompt": prompts, "max_tokens": 32, "temperature": 0, "ignore_eos": True, "cache_salt": salt}
        status, _, reply = self.server.ask("POST", "/v1/completions", body)
        self.assertEqual(status, 200, reply)
        return [c["text"] for c in reply["choices"]]

    def rss(self):
        status = pathlib.Path(f"/proc/{self.server.process.pid}/status").read_text()
        return 1024 * int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1))

    def budget(self):
        return self.server.metric("hob:expert_budget_bytes")

    def shrinks(self):
        return self.server.metric("hob:memory_pressure_shrinks_total")

    def test_fault_36_a_lowered_limit_shrinks_the_cache_and_kills_nobody(self):
        text = self.text("1")
        full = 2 * N_EXPERTS * 72 * 1024
        self.server.until(lambda: self.budget() == full, "the whole budget")
        used, rss = self.group.used(), self.rss()
        self.group.set_soft(used + 64 * MIB)  # 8 MiB of it become the margin
        time.sleep(3)
        self.assertEqual((self.budget(), self.shrinks()), (full, 0))

        limit = used - 24 * MIB
        self.group.set_soft(limit)  # 24 MiB and two margins too much
        self.server.until(lambda: self.shrinks() > 0, "a smaller cache")
        self.server.until(lambda: self.group.used() < limit, "a group within its limit")
        self.server.wait_for("memory is short: the expert cache shrinks")
        small = self.budget()
        self.assertGreater(small, full / 8)  # no more than what was missing
        self.assertLess(self.server.metric("hob:expert_slots_bytes"), small + 1)
        self.assertLess(self.rss(), rss - 30 * MIB)
        reads = self.server.metric("hob:expert_read_bytes_total")
        self.assertEqual(self.text("2"), text)
        self.assertGreater(self.server.metric("hob:expert_read_bytes_total"), reads)

        self.group.set_hard(limit)  # would have killed it before
        for salt in "345":
            self.assertEqual(self.text(salt), text)
        self.assertLess(self.rss(), rss - 24 * MIB)
        self.assertIsNone(self.server.process.poll())
        self.assertEqual(self.group.n_killed(), 0)

        self.group.set_hard(used + 512 * MIB)
        self.group.set_soft(used + 512 * MIB)
        start = time.monotonic()
        self.server.until(lambda: self.budget() > small, "a cache that grows again")
        self.assertGreater(time.monotonic() - start, 20)  # when the memory has been there for half a minute
        self.assertEqual(self.text("6"), text)


main()
