#pragma once
// How large the inputs of each expert's matrices are, column by column, over a calibration text: an
// error in a weight costs its square times the mean square of what it is multiplied with.
// Ref: AWQ (arXiv 2306.00978) and llama.cpp's importance matrix use the same second moment.
#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "experts/expert_store.h"
#include "experts/slab_maker.h"

namespace hob {

class ExpertInputStats {
 public:
  explicit ExpertInputStats(const ExpertGeometry& geometry);

  // Rows of x are inputs of gate and up, rows of h those of down. Equally many.
  void add(ExpertKey key, Mat x, Mat h);

  // Mean squares, drawn towards the layer's average by as much as kPriorRows rows of it weigh: an
  // expert that the text hardly used is not quantised by chance. Valid until the next call.
  ExpertImportance importance(ExpertKey key);
  uint64_t n_rows() const { return n_rows_; }  // (row, expert) pairs seen
  int n_unseen() const;                        // experts without any row

  static constexpr float kPriorRows = 8;

 private:
  struct Sums {
    uint64_t n_rows = 0;
    std::vector<float> input, hidden;  // sums of squares [d_model], [d_ff]
  };
  struct Layer {
    Sums all;
    std::vector<Sums> experts;
  };
  std::vector<Layer> layers_;
  std::vector<float> input_, hidden_;  // of the last importance()
  uint64_t n_rows_ = 0;
};

}  // namespace hob
