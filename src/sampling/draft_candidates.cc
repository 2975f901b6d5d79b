#include "sampling/draft_candidates.h"

#include <algorithm>
#include <cmath>

namespace hob {
namespace {

// Only so many of the likeliest tokens are looked at: what lies behind has a percent at most of any
// distribution that is worth drafting from.
constexpr size_t kMostCandidates = 64;
// Sharpness of the estimate under coupling: the target's logits differ from the drafter's, so the
// best score wins often, not always. Between .5 and 1 in the notes' experiments; the governor
// corrects what remains.
constexpr double kCoupledTemperature = 0.7;

struct Scored {
  double score;
  int32_t token;
};

bool better(const Scored& a, const Scored& b) {
  return a.score != b.score ? a.score > b.score : a.token < b.token;
}

}  // namespace

void draft_candidates(std::span<const float> logits, const SamplingParams& params,
                      uint32_t position, uint32_t choice, int n, std::vector<DraftCandidate>& out) {
  out.clear();
  thread_local std::vector<Scored> best;
  best.clear();
  // A heap of the best so far, the worst of them in front.
  for (size_t t = 0; t < logits.size(); t++) {
    const Scored s{logits[t], static_cast<int32_t>(t)};
    if (!std::isfinite(s.score)) {
      if (std::isnan(s.score)) return;
      continue;
    }
    if (best.size() == kMostCandidates) {
      if (!better(s, best.front())) continue;
      std::pop_heap(best.begin(), best.end(), better);
      best.pop_back();
    }
    best.push_back(s);
    std::push_heap(best.begin(), best.end(), better);
  }
  if (best.empty()) return;
  double tau = 1;
  if (params.temperature > 0) {
    tau = kCoupledTemperature;
    for (Scored& s : best)
      s.score = s.score / params.temperature -
                std::log(-std::log(
                    philox_uniform(params.seed, choice, position, static_cast<uint32_t>(s.token))));
  }
  std::sort(best.begin(), best.end(), better);
  double sum = 0;
  for (const Scored& s : best) sum += std::exp((s.score - best.front().score) / tau);
  for (size_t i = 0; i < best.size() && i < static_cast<size_t>(n); i++)
    out.push_back({best[i].token,
                   static_cast<float>(std::exp((best[i].score - best.front().score) / tau) / sum)});
}

}  // namespace hob
