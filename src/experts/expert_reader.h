#pragma once
// Reads whole experts out of the model's files, one ahead of the caller: for tools that go through
// the model from end to end.
#include <array>
#include <cstddef>
#include <exception>
#include <memory>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/async_file.h"
#include "experts/expert_store.h"

namespace hob {

// The stock bytes of one expert's matrices, indexed by ExpertPart.
using StockExpert = std::array<const std::byte*, 3>;

class ExpertReader {
 public:
  // Borrows `geometry`, of which only `files` and the layers' parts matter.
  explicit ExpertReader(const ExpertGeometry& geometry);

  // At most two may be under way. next() gives the one that was started first; it is valid until
  // the next start(). Throws Error(kIo | kDataLoss) when it could not be read.
  void start(ExpertKey key);
  StockExpert next();

 private:
  struct Buffer {
    AlignedBuffer bytes;
    ExpertKey key;
    // Per part: where each of its ranges was read to.
    std::array<std::array<const std::byte*, ExpertReads::kMost>, 3> read{};
    int n_reading = 0;
    std::exception_ptr error;
  };
  StockExpert stock_of(const Buffer& buffer);

  const ExpertGeometry& geometry_;
  std::array<std::vector<std::byte>, 3> made_;
  std::array<Buffer, 2> buffers_;
  size_t n_started_ = 0, n_taken_ = 0;
  std::unique_ptr<AsyncReader> reader_;  // last: its reads end before their buffers go
};

}  // namespace hob
