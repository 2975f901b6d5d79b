#include "base/async_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <thread>

#include "base/aligned_buffer.h"
#include "base/error.h"

namespace hob {
namespace {

char byte_at(size_t i) { return static_cast<char>((i * 2654435761u) >> 13); }

class AsyncFileTest : public testing::TestWithParam<AsyncReaderOptions> {
 protected:
  void SetUp() override { make_file(testing::TempDir(), 1'000'123); }
  void TearDown() override { unlink(path_.c_str()); }
  void make_file(const std::string& directory, size_t n_bytes) {
    if (!path_.empty()) unlink(path_.c_str());
    path_ = directory + "/hob_async_XXXXXX";
    const int fd = mkstemp(path_.data());
    ASSERT_GE(fd, 0);
    close(fd);
    std::vector<char> bytes(n_bytes);
    for (size_t i = 0; i < n_bytes; i++) bytes[i] = byte_at(i);
    std::ofstream(path_, std::ios::binary)
        .write(bytes.data(), static_cast<std::streamsize>(n_bytes));
    n_bytes_ = n_bytes;
  }
  // Reads everything in pieces, as many in flight as allowed, and compares.
  void expect_whole_file(AsyncReader& reader, size_t piece, int depth) {
    AlignedBuffer buffer(piece * static_cast<size_t>(depth));
    std::map<uint64_t, ReadOp> in_flight;
    std::vector<size_t> free;
    for (int i = 0; i < depth; i++) free.push_back(static_cast<size_t>(i));
    size_t next = 0, n_checked = 0;
    while (n_checked < n_bytes_) {
      while (next < n_bytes_ && !free.empty()) {
        ReadOp op{.file = 0,
                  .offset = next,
                  .n_bytes = piece,
                  .n_required = std::min(piece, n_bytes_ - next),
                  .dst = buffer.data() + free.back() * piece,
                  .tag = free.back()};
        free.pop_back();
        in_flight[op.tag] = op;
        reader.submit({&op, 1});
        next += piece;
      }
      for (const ReadDone& done : reader.wait()) {
        ASSERT_FALSE(done.error);
        const ReadOp op = in_flight.at(done.tag);
        for (size_t i = 0; i < op.n_required; i++)
          ASSERT_EQ(static_cast<char>(op.dst[i]), byte_at(op.offset + i)) << op.offset + i;
        n_checked += op.n_required;
        free.push_back(done.tag);
      }
    }
  }
  std::string path_;
  size_t n_bytes_ = 0;
};

TEST_P(AsyncFileTest, ReadsEveryByteIncludingTheUnalignedEnd) {
  auto reader = make_async_reader({path_}, GetParam());
  expect_whole_file(*reader, 3 * kIoAlign, GetParam().depth);
}

TEST_P(AsyncFileTest, WorksOnTmpfs) {
  if (!std::filesystem::is_directory("/dev/shm"))
    GTEST_SKIP() << "needs a tmpfs, which refuses O_DIRECT: no /dev/shm here (ls -d /dev/shm)";
  make_file("/dev/shm", 300'001);
  auto reader = make_async_reader({path_}, GetParam());
  expect_whole_file(*reader, 2 * kIoAlign, GetParam().depth);
}

TEST_P(AsyncFileTest, FileTruncatedWhileRunningIsDataLossAndNamed) {
  auto reader = make_async_reader({path_}, GetParam());
  std::filesystem::resize_file(path_, 10 * kIoAlign + 17);
  AlignedBuffer buffer(2 * kIoAlign);
  for (uint64_t page : {10u, 40u}) {  // half a block left; nothing left
    ReadOp op{.file = 0,
              .offset = page * kIoAlign,
              .n_bytes = kIoAlign,
              .n_required = 100,
              .dst = buffer.data(),
              .tag = 5};
    reader->submit({&op, 1});
    const std::vector<ReadDone> done = reader->wait();
    ASSERT_EQ(done.size(), 1u);
    EXPECT_EQ(done[0].tag, 5u);
    ASSERT_TRUE(done[0].error);
    try {
      std::rethrow_exception(done[0].error);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::kDataLoss);
      EXPECT_NE(std::string(e.what()).find(path_), std::string::npos) << e.what();
      EXPECT_NE(std::string(e.what()).find(std::to_string(page * kIoAlign)), std::string::npos)
          << e.what();
    }
  }
  // The reader goes on.
  ReadOp op{.file = 0,
            .offset = 0,
            .n_bytes = kIoAlign,
            .n_required = kIoAlign,
            .dst = buffer.data(),
            .tag = 6};
  reader->submit({&op, 1});
  EXPECT_FALSE(reader->wait().at(0).error);
}

TEST_P(AsyncFileTest, WakeEndsAWaitWithoutReads) {
  auto reader = make_async_reader({path_}, GetParam());
  for (int i = 0; i < 3; i++) {
    std::thread other([&] { reader->wake(); });
    EXPECT_TRUE(reader->wait().empty());
    other.join();
  }
}

TEST_P(AsyncFileTest, DestructorWaitsForReadsInFlight) {
  AlignedBuffer buffer(64 * kIoAlign);  // outlives the reader
  auto reader = make_async_reader({path_}, GetParam());
  ReadOp op{.file = 0,
            .offset = 0,
            .n_bytes = 64 * kIoAlign,
            .n_required = 64 * kIoAlign,
            .dst = buffer.data(),
            .tag = 0};
  reader->submit({&op, 1});
  reader.reset();
  EXPECT_EQ(static_cast<char>(buffer.data()[64 * kIoAlign - 1]), byte_at(64 * kIoAlign - 1));
}

INSTANTIATE_TEST_SUITE_P(
    Readers, AsyncFileTest,
    testing::Values(AsyncReaderOptions{.depth = 4, .direct_io = true, .use_uring = true},
                    AsyncReaderOptions{.depth = 4, .direct_io = false, .use_uring = true},
                    AsyncReaderOptions{.depth = 3, .direct_io = true, .use_uring = false},
                    AsyncReaderOptions{.depth = 1, .direct_io = false, .use_uring = false}));

TEST(AsyncFile, MissingFileIsNamed) {
  try {
    make_async_reader({"/nonexistent/model.gguf"}, {});
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kIo);
    EXPECT_NE(std::string(e.what()).find("/nonexistent/model.gguf"), std::string::npos);
  }
}

// A container that forbids the system call, as many do.
TEST(AsyncFile, UringForbiddenFallsBackToThreads) {
  std::string name;
  bool forbidden = false;
  std::thread([&] {  // a seccomp filter holds for its thread only
    sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    sock_fprog program{.len = 4, .filter = code};
    forbidden = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
    name = make_async_reader({"/proc/self/exe"}, {})->name();
  })
      .join();
  if (!forbidden)
    GTEST_SKIP() << "needs seccomp filters to forbid io_uring: this kernel has none (grep "
                    "Seccomp_filters /proc/self/status)";
  EXPECT_EQ(name, "pread");
}

// procfs refuses O_DIRECT at open().
TEST(AsyncFile, DirectRefusedAtOpenReadsBuffered) {
  for (bool uring : {true, false}) {
    auto reader =
        make_async_reader({"/proc/version"}, {.depth = 1, .direct_io = true, .use_uring = uring});
    EXPECT_FALSE(reader->direct(0));
    AlignedBuffer buffer(kIoAlign);
    ReadOp op{.file = 0,
              .offset = 0,
              .n_bytes = kIoAlign,
              .n_required = 5,
              .dst = buffer.data(),
              .tag = 0};
    reader->submit({&op, 1});
    EXPECT_FALSE(reader->wait().at(0).error);
    EXPECT_EQ(std::memcmp(buffer.data(), "Linux", 5), 0);
  }
}

class ReadProgressTest : public AsyncFileTest {
 protected:
  ReadProgress start(std::byte* dst) {
    return {.op = {.file = 0,
                   .offset = 0,
                   .n_bytes = 4 * kIoAlign,
                   .n_required = 4 * kIoAlign - 10,
                   .dst = dst,
                   .tag = 0},
            .n_done = 0,
            .n_retries = 0,
            .error = nullptr};
  }
};
using Next = ReadProgress::Next;

TEST_F(ReadProgressTest, DirectRefusedAtTheFirstReadGoesOnBuffered) {
  DirectFile file(path_, true);
  if (!file.direct())
    GTEST_SKIP() << "needs O_DIRECT, which the file system of the temporary folder refuses (dd "
                    "oflag=direct)";
  std::byte byte{};
  ReadProgress read = start(&byte);
  EXPECT_EQ(read.advance(-EINVAL, file), Next::kReadAgain);
  EXPECT_FALSE(file.direct());
  EXPECT_EQ(fcntl(file.fd(), F_GETFL) & O_DIRECT, 0);
  EXPECT_EQ(read.advance(-EINVAL, file), Next::kFinished);  // not again and again
  EXPECT_TRUE(read.error);
}

TEST_F(ReadProgressTest, ShortReadGoesOnAtAnAlignedOffset) {
  DirectFile file(path_, true);
  if (!file.direct())
    GTEST_SKIP() << "needs O_DIRECT, which the file system of the temporary folder refuses (dd "
                    "oflag=direct)";
  std::byte byte{};
  ReadProgress read = start(&byte);
  EXPECT_EQ(read.advance(kIoAlign + 512, file), Next::kReadAgain);
  EXPECT_EQ(read.offset(), kIoAlign);
  EXPECT_EQ(read.n_left(), 3 * kIoAlign);
  EXPECT_EQ(read.advance(3 * kIoAlign - 10, file), Next::kFinished);
  EXPECT_FALSE(read.error);
}

TEST_F(ReadProgressTest, ShortBufferedReadGoesOnAtTheByte) {
  DirectFile file(path_, false);
  std::byte byte{};
  ReadProgress read = start(&byte);
  EXPECT_EQ(read.advance(1, file), Next::kReadAgain);
  EXPECT_EQ(read.offset(), 1u);
  EXPECT_EQ(read.advance(0, file), Next::kFinished);
  EXPECT_TRUE(read.error);
}

TEST_F(ReadProgressTest, InterruptedReadsAreRepeatedButNotForever) {
  DirectFile file(path_, false);
  std::byte byte{};
  ReadProgress read = start(&byte);
  EXPECT_EQ(read.advance(-EINTR, file), Next::kReadAgain);
  EXPECT_EQ(read.advance(-EAGAIN, file), Next::kReadAgain);
  int n = 0;
  while (read.advance(-EAGAIN, file) == Next::kReadAgain) ASSERT_LT(++n, 1000);
  EXPECT_TRUE(read.error);
}

TEST_F(ReadProgressTest, DeviceErrorIsReportedOnceWithFileAndOffset) {
  DirectFile file(path_, false);
  std::byte byte{};
  ReadProgress read = start(&byte);
  EXPECT_EQ(read.advance(-EIO, file), Next::kFinished);
  try {
    std::rethrow_exception(read.error);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kIo);
    EXPECT_NE(std::string(e.what()).find(path_), std::string::npos);
  }
}

}  // namespace
}  // namespace hob
