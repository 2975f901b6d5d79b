#include "format/file_io.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <filesystem>

#include "base/aligned_buffer.h"
#include "base/error.h"
#include "unit/format/temp_folder.h"

namespace hob {
namespace {

TEST(OutputFd, FullDiskIsToldFromABrokenOne) {
  if (!std::filesystem::exists("/dev/full"))
    GTEST_SKIP() << "needs a device that is always full: no /dev/full here (ls /dev/full)";
  const OutputFd full("/dev/full", O_WRONLY);
  const std::array<std::byte, 100> bytes{};
  try {
    full.write_at(0, bytes);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kResourceExhausted) << e.what();
  }
  const TempFolder folder;
  const OutputFd read_only(folder.write("x", "abc"), O_RDONLY);
  try {
    read_only.write_at(0, bytes);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kIo) << e.what();
  }
}

TEST(OutputFd, DirectAndBufferedWritesGiveTheSameFile) {
  const TempFolder folder;
  OutputFd file(folder.file("x"), O_RDWR | O_CREAT);
  file.reserve(20000);
  EXPECT_EQ(file.size(), 20000u);
  AlignedBuffer page(8192);
  for (size_t i = 0; i < page.size(); i++) page.data()[i] = static_cast<std::byte>(i % 251);
  file.try_direct();
  file.write_at(4096, {page.data(), page.size()});
  file.drop_direct();
  file.write_at(19999, {page.data() + 7, 1});
  AlignedBuffer back(20480);
  file.try_direct();
  EXPECT_EQ(file.read_at(0, {back.data(), back.size()}), 20000u);
  EXPECT_EQ(std::memcmp(back.data() + 4096, page.data(), page.size()), 0);
  EXPECT_EQ(back.data()[19999], std::byte{7});
  EXPECT_EQ(back.data()[0], std::byte{0});
}

// Unaligned memory: what O_DIRECT refuses must still arrive.
TEST(OutputFd, RefusedDirectWritesFallBack) {
  const TempFolder folder;
  OutputFd file(folder.file("x"), O_RDWR | O_CREAT);
  file.try_direct();
  AlignedBuffer page(8192);
  page.data()[5] = std::byte{9};
  file.write_at(3, {page.data() + 5, 100});
  std::array<std::byte, 1> back{};
  EXPECT_EQ(file.read_at(3, back), 1u);
  EXPECT_EQ(back[0], std::byte{9});
}

TEST(OutputFd, LockIsHeldByOne) {
  const TempFolder folder;
  const OutputFd a(folder.write("x", ""), O_RDWR), b(folder.file("x"), O_RDWR);
  EXPECT_TRUE(a.try_lock());
  EXPECT_FALSE(b.try_lock());
  EXPECT_TRUE(a.is_named_path());
  std::filesystem::rename(folder.file("x"), folder.file("y"));
  EXPECT_FALSE(a.is_named_path());
}

}  // namespace
}  // namespace hob
