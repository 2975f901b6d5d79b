#include "model/batch.h"

#include <algorithm>

namespace hob {

int StepBatch::n_logits() const {
  return static_cast<int>(
      std::count_if(rows.begin(), rows.end(), [](const StepRow& r) { return r.want_logits; }));
}

}  // namespace hob
