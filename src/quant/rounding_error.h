#pragma once
// How far a tensor's values move when it gets another type: a sample of its rows is rounded.
#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "format/row_reader.h"
#include "quant/importance_matrix.h"

namespace hob {

class RoundingErrors {
 public:
  // All borrowed; `importance` may be null.
  RoundingErrors(const ModelFile& model, const ImportanceMatrix* importance, ThreadPool& pool)
      : importance_(importance), pool_(pool), reader_(model) {}

  // For each type sum w (x - x^)^2 / sum w x^2 over evenly spaced rows, w = importance or 1; 0 for
  // the tensor's own type and for a tensor of zeros. The numbers do not depend on the threads.
  // Throws Error(kDataLoss) for weights that are not finite.
  std::vector<double> of(const RawTensor& tensor, std::span<const DType> types);
  // The same for the plain rounding of round_plain().
  double of_plain(const RawTensor& tensor);

 private:
  void sample(const RawTensor& tensor);
  template <class Round>
  double error_of(const Round& round);

  const ImportanceMatrix* importance_;
  ThreadPool& pool_;
  RowReader reader_;
  int64_t n_cols_ = 0;
  std::vector<float> values_, ones_;   // of the sampled rows
  std::vector<const float*> of_rows_;  // importance
};

// To 4 bits and back without any search: fast enough for whole models, and an error large enough
// to be measured. n: a multiple of 32.
void round_plain(std::span<float> values);

}  // namespace hob
