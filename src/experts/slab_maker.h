#pragma once
// From an expert's stock bytes to the image of its cache slot: permuted, and for the low copy
// quantised again.
#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "base/thread_pool.h"
#include "experts/expert_layout.h"
#include "experts/expert_reader.h"
#include "experts/expert_store.h"

namespace hob {

// Weights of the squared error of each column, indexed by ExpertPart; empty = all the same.
using ExpertImportance = std::array<std::span<const float>, 3>;

class SlabMaker {
 public:
  // `low`: null when no low copies will be made. Borrows everything.
  SlabMaker(const ExpertGeometry& high, const ExpertGeometry* low, const Backend& backend,
            ThreadPool& pool);

  uint64_t high_bytes(int layer) const;
  uint64_t low_bytes(int layer) const;
  // Fill the first high_bytes() or low_bytes() of `image`, which is 64-byte aligned. Gaps are zero,
  // so that equal models give equal packs.
  void make_high(int layer, const StockExpert& stock, std::byte* image);
  void make_low(int layer, const StockExpert& stock, const ExpertImportance& importance,
                std::byte* image);

 private:
  // A piece of a matrix that one thread works on; rows in multiples of what prepare() takes.
  struct Piece {
    size_t part;
    int row, n_rows;
  };
  void cut(const ExpertLayer& layer);

  const ExpertGeometry& high_;
  const ExpertGeometry* low_;
  const Backend& backend_;
  ThreadPool& pool_;
  std::vector<ExpertLayout> high_layouts_, low_layouts_;
  std::vector<Piece> pieces_;
  // Of each piece: one row of f32, and its rows in the low type. Threads may not allocate: a task
  // of the pool must not throw.
  std::vector<std::vector<float>> row_;
  std::vector<std::vector<std::byte>> quantised_;
};

}  // namespace hob
