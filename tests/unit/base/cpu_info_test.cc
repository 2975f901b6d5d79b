#include "base/cpu_info.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace hob {
namespace {

// A folder like /sys/devices/system/cpu.
class CpuInfo : public testing::Test {
 protected:
  CpuInfo()
      : root_(std::filesystem::path(testing::TempDir()) /
              testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::filesystem::create_directories(root_);
  }
  ~CpuInfo() override { std::filesystem::remove_all(root_); }

  void capacity(int core, const std::string& text) {
    const auto folder = root_ / ("cpu" + std::to_string(core));
    std::filesystem::create_directories(folder);
    std::ofstream(folder / "cpu_capacity") << text;
  }
  std::vector<Core> read(const std::vector<int>& ids) const { return read_cores(ids, root_); }

  std::filesystem::path root_;
};

std::vector<int> ids_of(const std::vector<Core>& cores) {
  std::vector<int> ids;
  for (const Core& c : cores) ids.push_back(c.id);
  return ids;
}

TEST_F(CpuInfo, WithoutCapacitiesAllCoresCount) {
  const std::vector<Core> cores = read({2, 0, 5});
  EXPECT_EQ(ids_of(cores), (std::vector<int>{0, 2, 5}));
  EXPECT_EQ(cores[0].capacity, 1024);
  EXPECT_EQ(performance_cores(cores), 3);
}

TEST_F(CpuInfo, SlowCoresHelpFromAThirdOfTheFastOnes) {
  capacity(0, "342\n");  // 342 * 3 >= 1024
  capacity(1, "341\n");
  capacity(2, "1024\n");
  capacity(3, "700\n");
  const std::vector<Core> cores = read({0, 1, 2, 3});
  EXPECT_EQ(ids_of(cores), (std::vector<int>{2, 3, 0, 1}));
  EXPECT_EQ(performance_cores(cores), 3);
}

TEST_F(CpuInfo, TheFastestUsableCoreIsTheMeasure) {
  capacity(0, "250\n");
  capacity(1, "250\n");
  capacity(7, "1024\n");
  EXPECT_EQ(performance_cores(read({0, 1})), 2);  // the affinity mask leaves only these
  EXPECT_EQ(performance_cores(read({0, 1, 7})), 1);
}

TEST_F(CpuInfo, NonsenseCountsAsNoFile) {
  capacity(0, "");
  capacity(1, "fast\n");
  capacity(2, "-5\n");
  capacity(3, "0\n");
  for (const Core& c : read({0, 1, 2, 3})) EXPECT_EQ(c.capacity, 1024) << c.id;
  EXPECT_EQ(performance_cores({}), 0);
}

TEST_F(CpuInfo, ThisMachineHasACore) {
  EXPECT_GE(default_threads(), 1);
  EXPECT_LE(static_cast<size_t>(default_threads()), usable_cores().size());
}

}  // namespace
}  // namespace hob
