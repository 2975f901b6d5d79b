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
  EXPECT_EQ(info.cgroup_room_bytes, 824 * kMiB);  // 1024 - (300 - 100)
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
  EXPECT_EQ(info.cgroup_room_bytes, 412 * kMiB);
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
  EXPECT_EQ(info.cgroup_room_bytes, 0u);
  EXPECT_EQ(auto_memory_bytes(info), 0u);  // 10 MiB of own pages are less than the headroom
}

TEST(MemoryInfo, ThisProcess) {
  const MemoryInfo info = read_memory_info();
  EXPECT_GT(info.total_bytes, 0u);
  EXPECT_GT(info.own_rss_bytes, 1u << 20);
  EXPECT_GE(own_peak_bytes(), info.own_rss_bytes / 2);
}

}  // namespace
}  // namespace hob
