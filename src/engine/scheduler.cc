#include "engine/scheduler.h"

#include <algorithm>

#include "base/error.h"

namespace hob {
namespace {

// How many of the first pending tokens fit into `rows` rows and `logit_rows` rows of logits.
int fitting_tokens(const SeqView& seq, int rows, int logit_rows) {
  const int n = std::min(seq.n_pending_tok, rows);
  const int n_logits = std::max(0, n - seq.n_logits_from);
  return n - std::max(0, n_logits - logit_rows);
}

}  // namespace

std::vector<RowPlan> schedule(std::span<const SeqView> seqs, const StepLimits& limits, int first,
                              std::vector<RowPlan> storage) {
  HOB_CHECK(limits.max_rows >= 1 && limits.max_logit_rows >= 1 && first >= 0);
  std::vector<RowPlan> plan = std::move(storage);
  plan.clear();
  int rows = limits.max_rows, logit_rows = limits.max_logit_rows;
  const size_t n_seqs = seqs.size();
  for (const bool decodes : {true, false}) {
    for (size_t i = 0; i < n_seqs && rows > 0; i++) {
      const size_t s = (i + static_cast<size_t>(first)) % n_seqs;
      if (!seqs[s].active || seqs[s].n_pending_tok == 0 || (seqs[s].n_pending_tok == 1) != decodes)
        continue;
      const int n = fitting_tokens(seqs[s], rows, logit_rows);
      if (n <= 0) continue;
      plan.push_back({static_cast<int>(s), n});
      rows -= n;
      logit_rows -= std::max(0, n - seqs[s].n_logits_from);
    }
  }
  return plan;
}

}  // namespace hob
