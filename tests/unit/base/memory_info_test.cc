#include "base/memory_info.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace hob {
namespace {

constexpr uint64_t kMiB = 1 << 20;

// A made-up /proc and /sys/fs/cgroup.
class MemoryInfoTest : public testing::Test {
 protected:
  MemoryInfoTest() : root_(testing::TempDir() + "/memory_info_" + std::to_string(getpid())) {
    write("proc/meminfo", "MemTotal:  8388608 kB\nMemFree:  100 kB\nMemAvailable:  4194304 kB\n");
    write("proc/self/status", "Name:\thob\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\n");
  }
  ~MemoryInfoTest() override { std::filesystem::remove_all(root_); }

  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(
        (root_ + "/" + path).substr(0, (root_ + "/" + path).rfind('/')));
    std::ofstream(root_ + "/" + path) << text;
  }
  MemoryInfo read() const { return read_memory_info({root_ + "/proc", root_ + "/cgroup"}); }

  std::string root_;
};

TEST_F(MemoryInfoTest, WithoutCgroups) {
  const MemoryInfo info = read();
  EXPECT_EQ(info.total_bytes, 8192 * kMiB);
  EXPECT_EQ(info.available_bytes, 4096 * kMiB);
  EXPECT_EQ(info.own_rss_bytes, 10 * kMiB);
  EXPECT_EQ(info.own_peak_bytes, 20 * kMiB);
  EXPECT_FALSE(info.cgroup_limit_bytes);
  EXPECT_EQ(auto_memory_bytes(info), 4106 * kMiB - 4106 * kMiB / 16);
}

TEST_F(MemoryInfoTest, V2TakesTheTightestParent) {
  write("proc/self/cgroup", "0::/a/b\n");
  write("cgroup/a/b/memory.max", "max\n");
  write("cgroup/a/memory.max", "1073741824\n");
  write("cgroup/a/memory.current", "314572800\n");
  write("cgroup/a/memory.stat", "anon 1\ninactive_file 104857600\nactive_file 5\n");
  const MemoryInfo info = read();
  EXPECT_EQ(info.cgroup_limit_bytes, 1024 * kMiB);
  EXPECT_EQ(info.cgroup_headroom_bytes, 824 * kMiB);  // 1024 - (300 - 100)
  EXPECT_EQ(auto_memory_bytes(info), 834 * kMiB - 64 * kMiB);
}

TEST_F(MemoryInfoTest, V1MemoryController) {
  write("proc/self/cgroup", "5:devices:/x\n4:cpu,memory:/job\n0::/\n");
  write("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  write("cgroup/memory/job/memory.limit_in_bytes", "536870912\n");
  write("cgroup/memory/job/memory.usage_in_bytes", "104857600\n");
  write("cgroup/memory/job/memory.stat", "total_inactive_file 0\n");
  const MemoryInfo info = read();
  EXPECT_EQ(info.cgroup_limit_bytes, 512 * kMiB);
  EXPECT_EQ(info.cgroup_headroom_bytes, 412 * kMiB);
}

// In a container /proc/self/cgroup names the host's path, but only the container's own group is
// mounted, as the root.
TEST_F(MemoryInfoTest, ContainerSeesItsGroupAsTheRoot) {
  write("proc/self/cgroup", "0::/docker/0123abcd\n");
  write("cgroup/memory.max", "268435456\n");
  EXPECT_EQ(read().cgroup_limit_bytes, 256 * kMiB);
}

TEST_F(MemoryInfoTest, GroupAboveItsLimitHasNoRoom) {
  write("proc/self/cgroup", "0::/\n");
  write("cgroup/memory.max", "1048576\n");
  write("cgroup/memory.current", "99999999\n");
  const MemoryInfo info = read();
  EXPECT_EQ(info.cgroup_headroom_bytes, 1048576 - 99999999);
  EXPECT_EQ(auto_memory_bytes(info), 0u);  // 10 MiB of own pages are less than the headroom
}

// What systemd calls MemoryHigh, and v1's soft limit: the kernel reclaims there, so hob stays
// below.
TEST_F(MemoryInfoTest, TheSofterLimitBinds) {
  write("proc/self/cgroup", "0::/s\n");
  write("cgroup/s/memory.max", "1073741824\n");
  write("cgroup/s/memory.high", "536870912\n");
  write("cgroup/s/memory.current", "629145600\n");
  EXPECT_EQ(read().cgroup_limit_bytes, 512 * kMiB);
  EXPECT_EQ(read().cgroup_headroom_bytes, -88 * static_cast<int64_t>(kMiB));
  write("proc/self/cgroup", "4:memory:/s\n");
  write("cgroup/memory/s/memory.limit_in_bytes", "1073741824\n");
  write("cgroup/memory/s/memory.soft_limit_in_bytes", "268435456\n");
  write("cgroup/memory/s/memory.usage_in_bytes", "134217728\n");
  EXPECT_EQ(read().cgroup_limit_bytes, 256 * kMiB);
  EXPECT_EQ(read().cgroup_headroom_bytes, 128 * kMiB);
}

TEST_F(MemoryInfoTest, HierarchiesAreWhereMountinfoSays) {
  const std::string at = root_ + "/a\\040b/";
  write("proc/self/mountinfo",
        "23 1 8:1 / / rw - ext4 /dev/sda rw\n"
        "35 31 0:32 /docker/12 " +
            at +
            "v1 rw,relatime shared:5 - cgroup cgroup rw,memory\n"
            "36 31 0:33 / " +
            at +
            "cpu rw - cgroup cgroup rw,cpu\n"
            "41 31 0:38 / " +
            at + "v2 rw - cgroup2 cgroup2 rw,nsdelegate\n");
  write("proc/self/cgroup", "4:memory:/docker/12/job\n1:cpu:/x\n0::/unit\n");
  write("cgroup/memory/docker/12/job/memory.limit_in_bytes", "4096\n");  // nothing is mounted here
  write("a b/v1/job/memory.limit_in_bytes", "536870912\n");
  write("a b/v1/memory.limit_in_bytes", "805306368\n");
  write("a b/v2/unit/memory.current", "1\n");
  write("a b/v2/unit/memory.pressure",
        "some avg10=7.50 avg60=0.00 avg300=0.00 total=1\n"
        "full avg10=2.25 avg60=0.00 avg300=0.00 total=1\n");
  const MemoryInfo info = read();
  EXPECT_EQ(info.cgroup_limit_bytes, 512 * kMiB);
  EXPECT_FALSE(info.cgroup_headroom_bytes);  // no usage
  ASSERT_TRUE(info.cgroup_stall);
  EXPECT_EQ(info.cgroup_stall->some_percent, 7.5);
  EXPECT_EQ(info.cgroup_stall->full_percent, 2.25);
  // Another group's name that begins alike is not below the mount's root.
  write("proc/self/cgroup", "4:memory:/docker/123\n");
  EXPECT_EQ(read().cgroup_limit_bytes, 768 * kMiB);
}

TEST_F(MemoryInfoTest, Stall) {
  EXPECT_FALSE(read().stall);
  write("proc/pressure/memory",
        "some avg10=99.00 avg60=1.00 avg300=0.10 total=5\n"
        "full avg10=0.01 avg60=0.00 avg300=0.00 total=2\n");
  ASSERT_TRUE(read().stall);
  EXPECT_EQ(read().stall->some_percent, 99);
  EXPECT_EQ(read().stall->full_percent, 0.01);
}

// Whatever stands in these files: no exception, no figure made of it.
TEST_F(MemoryInfoTest, MalformedFilesAreAbsent) {
  const std::string kBad[] = {"",
                              "\n",
                              "x",
                              "-1\n",
                              "18446744073709551616\n",
                              "99999999999999999999999\n",
                              "1e9\n",
                              "0x10\n",
                              " \t \n",
                              std::string(3, '\0'),
                              "max\n",
                              "12 34\n" + std::string(5000, 'a'),
                              "some avg10=\nfull avg10=1\n",
                              "some avg10=nan x\nfull avg10=inf\n",
                              "some avg10=-1\nfull avg10=101\n",
                              "some avg10=1.0\n",
                              "inactive_file\n",
                              ":::\n::\n0:\n",
                              "4:memory:\n0::\n",
                              "4:memory:../..\n0::/..\n",
                              "- - - - - - - -\n",
                              "1 2 3 4 5 6 -\n1 2 3 \\04 \\ 6 - cgroup2 a b\n"};
  const char* const kFiles[] = {"proc/meminfo",
                                "proc/self/cgroup",
                                "proc/self/mountinfo",
                                "proc/pressure/memory",
                                "cgroup/a/memory.max",
                                "cgroup/a/memory.high",
                                "cgroup/a/memory.current",
                                "cgroup/a/memory.stat",
                                "cgroup/a/memory.pressure",
                                "cgroup/memory/a/memory.limit_in_bytes",
                                "cgroup/memory/a/memory.usage_in_bytes"};
  for (const char* file : kFiles) {
    for (const std::string& bad : kBad) {
      std::filesystem::remove_all(root_);
      write("proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n");
      write("proc/self/cgroup", "4:memory:/a\n0::/a\n");
      write("cgroup/a/memory.max", "1073741824\n");
      write("cgroup/a/memory.current", "1048576\n");
      write(file, bad);
      const MemoryInfo info = read();
      EXPECT_FALSE(info.stall) << file << ": " << bad;
      EXPECT_FALSE(info.cgroup_stall) << file << ": " << bad;
      EXPECT_LE(info.cgroup_headroom_bytes.value_or(0), 1 << 30);
      auto_memory_bytes(info);
    }
  }
  std::filesystem::remove_all(root_);
  std::filesystem::create_directories(root_ + "/proc/self/cgroup");  // a folder
  std::filesystem::create_directories(root_ + "/proc/meminfo");
  const MemoryInfo info = read();
  EXPECT_FALSE(info.available_bytes);
  EXPECT_FALSE(info.cgroup_limit_bytes);
  EXPECT_EQ(auto_memory_bytes(info), 0u);
}

TEST(MemoryInfo, ThisProcess) {
  const MemoryInfo info = read_memory_info();
  EXPECT_GT(info.total_bytes, 0u);
  EXPECT_GT(info.own_rss_bytes, 1u << 20);
  EXPECT_GE(own_peak_bytes(), info.own_rss_bytes / 2);
}

}  // namespace
}  // namespace hob
