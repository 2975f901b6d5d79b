#pragma once
#include <cstdint>
#include <vector>

#include "base/aligned_buffer.h"
#include "kernels/table.h"

namespace hob {

// 8-bit copies of activation rows. Grows to the largest step seen, then never allocates.
class ActBuffer {
 public:
  static size_t row_bytes(int d);
  // Makes room for n_rows rows of width d (multiple of kActBlock); earlier contents are lost.
  void resize(int n_rows, int d);
  MutableActRow mutable_row(int r) const;
  // Quantised rows in order, for the kernels.
  const ActRow* rows() const { return rows_.data(); }

 private:
  AlignedBuffer buffer_;
  std::vector<ActRow> rows_;
};

}  // namespace hob
