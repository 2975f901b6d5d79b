#include "model/direct_reader.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <random>

#include "base/error.h"
#include "unit/model/temp_dir_util.h"

namespace hob {
namespace {

std::vector<char> write_random(const std::string& path, size_t n, unsigned seed) {
  std::mt19937 rng(seed);
  std::vector<char> bytes(n);
  for (char& b : bytes) b = static_cast<char>(rng());
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(n));
  return bytes;
}

class DirectReaderModes : public ::testing::TestWithParam<bool> {};

TEST_P(DirectReaderModes, AnyRangeOfAnyFile) {
  const TempDir dir;
  // Neither length is a multiple of the device's block.
  const std::vector<std::vector<char>> content{write_random(dir / "a", 100003, 1),
                                               write_random(dir / "b", 5000, 2)};
  DirectReader reader({dir / "a", dir / "b"}, 20000, GetParam());
  std::mt19937 rng(3);
  for (int i = 0; i < 500; i++) {
    const int file = static_cast<int>(rng() % 2);
    const std::vector<char>& all = content[static_cast<size_t>(file)];
    const size_t n = 1 + rng() % 5000, offset = rng() % (all.size() - n + 1);
    const auto got = reader.read(file, offset, n);
    ASSERT_EQ(got.size(), n);
    ASSERT_EQ(std::memcmp(got.data(), all.data() + offset, n), 0) << offset << " " << n;
  }
  EXPECT_EQ(reader.read(0, 3, 20000).size(), 20000u);
}

TEST_P(DirectReaderModes, EndOfFileIsAnErrorThatNamesIt) {
  const TempDir dir;
  write_random(dir / "short", 10000, 4);
  DirectReader reader({dir / "short"}, 8192, GetParam());
  try {
    reader.read(0, 9000, 1001);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kDataLoss);
    EXPECT_NE(std::string(e.what()).find("short"), std::string::npos);
    EXPECT_NE(std::string(e.what()).find("10000"), std::string::npos) << e.what();
  }
  EXPECT_THROW(reader.read(0, 50000, 10), Error);
  EXPECT_EQ(reader.read(0, 9000, 1000).size(), 1000u);  // and it goes on working
}

TEST_P(DirectReaderModes, MissingFileAndDirectory) {
  const TempDir dir;
  DirectReader reader({dir / "nothing", dir / "."}, 4096, GetParam());
  for (int file : {0, 1}) {
    try {
      reader.read(file, 0, 16);
      FAIL();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::kIo) << e.what();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, DirectReaderModes, ::testing::Values(true, false));

}  // namespace
}  // namespace hob
