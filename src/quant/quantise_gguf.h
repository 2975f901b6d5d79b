#pragma once
// Writes a model with other tensor types, rounding every row on its own; memory does not depend on
// the size of the model.
#include <functional>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "quant/importance_matrix.h"
#include "quant/quant_plan.h"

namespace hob {

struct QuantiseResult {
  uint64_t n_bytes = 0;        // of the file
  uint64_t bytes_resumed = 0;  // tensor bytes that an interrupted run had written
  bool discarded = false;      // an interrupted run with other inputs or options was thrown away
};

// done and total in bytes written, `before` of them by an earlier run. May throw: what has been
// written stays, and the same call continues there.
using QuantiseProgress = std::function<void(uint64_t done, uint64_t total, uint64_t before)>;

// `importance`: nullptr: none. `out` appears when it is complete (ResumableFile). The bytes do not
// depend on the machine or the number of threads. Throws Error(kDataLoss) for weights that are not
// finite, kIo and kResourceExhausted.
QuantiseResult quantise_gguf(const ModelFile& model, const FileType& type,
                             const std::vector<QuantStep>& steps,
                             const ImportanceMatrix* importance, const std::string& out,
                             ThreadPool& pool, const QuantiseProgress& progress);

// Bytes of the file that it would write.
uint64_t quantised_bytes(const ModelFile& model, const FileType& type,
                         const std::vector<QuantStep>& steps);

}  // namespace hob
