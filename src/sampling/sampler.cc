#include "sampling/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <unordered_map>

#include "base/error.h"
#include "sampling/philox.h"
#include "sampling/vocab_scan.h"

namespace hob {
namespace {

bool has_penalties(const SamplingParams& p) {
  return p.repetition_penalty != 1.f || p.presence_penalty != 0.f || p.frequency_penalty != 0.f;
}

void apply_edits(std::span<float> logits, const LogitEdits& edits) {
  for (const auto& [token, bias] : edits.bias) {
    HOB_CHECK(token >= 0 && static_cast<size_t>(token) < logits.size());
    logits[static_cast<size_t>(token)] += bias;
  }
  for (int32_t token : edits.banned) {
    HOB_CHECK(token >= 0 && static_cast<size_t>(token) < logits.size());
    logits[static_cast<size_t>(token)] = -INFINITY;
  }
}

// As llama.cpp: repetition divides positive and multiplies negative logits; then presence and
// frequency (as OpenAI).
void apply_penalties(std::span<float> logits, const SamplingParams& p,
                     std::span<const int32_t> history) {
  if (!has_penalties(p)) return;
  const size_t window =
      p.penalty_window == 0 ? history.size() : static_cast<size_t>(p.penalty_window);
  std::unordered_map<int32_t, int> counts;
  for (int32_t token : history.last(std::min(window, history.size()))) counts[token]++;
  for (const auto& [token, n] : counts) {
    if (token < 0 || static_cast<size_t>(token) >= logits.size()) continue;
    float& x = logits[static_cast<size_t>(token)];
    x = x > 0 ? x / p.repetition_penalty : x * p.repetition_penalty;
    x -= p.presence_penalty + p.frequency_penalty * static_cast<float>(n);
  }
}

// What sample() works in; kept by each thread, as it is as long as a vocabulary.
struct Scratch {
  std::vector<float> edited;
  VocabScan scan;
  std::vector<Candidate> candidates;
};

// The k best (0 = all), in the order of their ids.
void keep_top_k(const VocabScan& scan, int k, std::vector<Candidate>& candidates) {
  const auto n = static_cast<size_t>(k);
  scan.collect(k == 0 ? -INFINITY : scan.lower_bound_of_top(n), candidates);
  if (k == 0 || candidates.size() <= n) return;
  std::nth_element(candidates.begin(), candidates.begin() + k - 1, candidates.end(), better);
  candidates.resize(n);
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
}

// The smallest set of most probable tokens whose probabilities sum to at least top_p. Only where
// the sum crosses it does the order matter: candidates are counted into bins of equal logits (but
// for kBinWidth), and the bin of the crossing alone is sorted. All sums run in an order that no
// sort algorithm has a say in: bins from the best down, within a bin by id, in the last by rank.
class TopP {
 public:
  TopP(std::vector<Candidate>& candidates, float best) : candidates_(candidates), best_(best) {
    masses_.assign(kBins, 0);
    for (const Candidate& c : candidates_) masses_[bin(c.logit)] += mass(c.logit);
  }

  void keep(float top_p) {
    const double wanted = top_p * std::accumulate(masses_.begin(), masses_.end(), 0.0);
    double sum = 0;
    size_t last = 0;
    while (last + 1 < kBins && sum + masses_[last] < wanted) sum += masses_[last++];
    std::erase_if(candidates_, [&](const Candidate& c) { return bin(c.logit) > last; });
    // Not stable_partition: it would allocate, and the order of those in front does not matter.
    const auto tail = std::partition(candidates_.begin(), candidates_.end(),
                                     [&](const Candidate& c) { return bin(c.logit) < last; });
    std::sort(tail, candidates_.end(), better);
    auto end = tail;
    while (end != candidates_.end() && (end == candidates_.begin() || sum < wanted))
      sum += mass((end++)->logit);
    candidates_.erase(end, candidates_.end());
  }

 private:
  static constexpr size_t kBins = 512;
  static constexpr float kBinWidth =
      1.f / 16;  // the last bin holds all from e^-32 of the best down

  size_t bin(float logit) const {
    return static_cast<size_t>(
        std::min((best_ - logit) / kBinWidth, static_cast<float>(kBins - 1)));
  }
  double mass(float logit) const { return std::exp(static_cast<double>(logit) - best_); }

  std::vector<Candidate>& candidates_;
  const float best_;
  std::vector<double> masses_;
};

// Tokens at least min_p times as probable as the best one.
double min_p_floor(double best, float min_p) {
  return min_p <= 0.f ? -INFINITY : best + std::log(static_cast<double>(min_p));
}

double uniform_of(uint32_t word0, uint32_t word1) {
  // 52 bits and a half: the largest is 1 - 2^-53, exactly representable; 53 bits would round up
  // to 1.
  const uint64_t bits = (static_cast<uint64_t>(word0) << 32 | word1) >> 12;
  return (static_cast<double>(bits) + 0.5) * 0x1p-52;
}

PhiloxKey key_of(uint64_t seed) {
  return {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
}

// argmax of (logit - best) / temperature + Gumbel noise, ties to the lower id.
//
// To win, -log(u) must be at most exp(x - score). Nearly all tokens fail that by far, and as 1 - u
// <= -log(u) and 2^-floor(y log2(e)) >= exp(-y), two cheap bounds prove it without a logarithm.
class GumbelMax {
 public:
  // `best` goes first, so that the others have something to lose against.
  GumbelMax(const SamplingParams& params, const Candidate& best, uint32_t position, uint32_t choice)
      : temperature_(params.temperature),
        best_(best.logit),
        key_(key_of(params.seed)),
        position_(position),
        choice_(choice) {
    double bound = 1 + 1e-6;  // for what the rounding of the scores may hide
    for (double& b : bounds_) {
      b = bound;
      bound /= 2;
    }
    add(best);
  }

  void add(const Candidate& c) {
    const PhiloxCounter r =
        philox4x32({choice_, position_, static_cast<uint32_t>(c.token), 0}, key_);
    add(c, uniform_of(r[0], r[1]));
  }

  // All finite logits of a scan.
  void add_all(const VocabScan& scan) {
    for (size_t b = 0; b < scan.n_blocks(); b++)
      if (scan.block_max(b) != -INFINITY) add_block(scan, b);
  }

  int32_t token() const { return token_; }

 private:
  static_assert(kScanBlock == kPhiloxLanes);

  // Relative to the best logit: a tiny temperature then gives -huge, never inf - inf.
  double scaled(float logit) const { return (static_cast<double>(logit) - best_) / temperature_; }

  void add(const Candidate& c, double u) {
    const double x = scaled(c.logit);
    if (token_ >= 0 && 1 - u > bound(x)) return;
    const double score = x - std::log(-std::log(u));
    if (token_ < 0 || score > score_ || (score == score_ && c.token < token_)) {
      score_ = score;
      token_ = c.token;
    }
  }

  // A token of x that has 1 - u above this loses.
  double bound(double x) const {
    constexpr double kLog2E = 1.4426950408889634;
    const double y = (score_ - x) * kLog2E;
    if (!(y > 0)) return INFINITY;
    return bounds_[static_cast<size_t>(std::min(y, static_cast<double>(bounds_.size() - 1)))];
  }

  void add_block(const VocabScan& scan, size_t block) {
    const double block_bound = bound(scaled(scan.block_max(block)));
    if (block_bound < 0x1p-53) return;  // 1 - u is never less
    const size_t first = block * kScanBlock;
    PhiloxLanes r;
    philox_lanes({choice_, position_, static_cast<uint32_t>(first), 0}, key_, r);
    // Word 0 alone proves most losses: u < (word0 + 1) / 2^32.
    const double hopeless = (1 - block_bound) * 0x1p32 - 1;
    const uint32_t limit = hopeless > 0 ? static_cast<uint32_t>(hopeless) : 0;  // 0: proves nothing
    const size_t n = std::min(kScanBlock, scan.logits().size() - first);
    for (size_t i = 0; i < n; i++) {
      if (limit > 0 && r.word0[i] <= limit) continue;
      const float logit = scan.logits()[first + i];
      if (logit != -INFINITY)
        add({logit, static_cast<int32_t>(first + i)}, uniform_of(r.word0[i], r.word1[i]));
    }
  }

  const double temperature_, best_;
  const PhiloxKey key_;
  const uint32_t position_, choice_;
  std::array<double, 56> bounds_;  // [i] 2^-i
  double score_ = -INFINITY;
  int32_t token_ = -1;
};

void check_range(bool ok, const char* name, const char* range, double value) {
  if (!ok) fail(Code::kInvalidArgument, "[sampling] expected {} {}, got {}", name, range, value);
}

}  // namespace

void SamplingParams::check() const {
  check_range(std::isfinite(temperature) && temperature >= 0, "temperature", ">= 0", temperature);
  check_range(top_k >= 0, "top_k", ">= 0 (0 = off)", top_k);
  check_range(top_p > 0 && top_p <= 1, "top_p", "in (0, 1]", top_p);
  check_range(min_p >= 0 && min_p <= 1, "min_p", "in [0, 1]", min_p);
  check_range(std::isfinite(repetition_penalty) && repetition_penalty > 0, "repetition_penalty",
              "> 0", repetition_penalty);
  check_range(std::isfinite(presence_penalty), "presence_penalty", "finite", presence_penalty);
  check_range(std::isfinite(frequency_penalty), "frequency_penalty", "finite", frequency_penalty);
  check_range(penalty_window >= 0, "penalty_window", ">= 0 (0 = all)", penalty_window);
}

double philox_uniform(uint64_t seed, uint32_t choice, uint32_t position, uint32_t token) {
  const PhiloxCounter r = philox4x32({choice, position, token, 0}, key_of(seed));
  return uniform_of(r[0], r[1]);
}

int32_t sample(std::span<const float> logits, const SamplingParams& params,
               std::span<const int32_t> history, uint32_t position, uint32_t choice,
               const LogitEdits& edits) {
  thread_local Scratch scratch;
  VocabScan& scan = scratch.scan;
  scan.scan(logits);
  if (has_penalties(params) || !edits.bias.empty() || !edits.banned.empty()) {
    scratch.edited.assign(logits.begin(), logits.end());
    apply_edits(scratch.edited, edits);
    apply_penalties(scratch.edited, params, history);
    scan.scan(scratch.edited);
  }
  const Candidate best = scan.best();
  if (params.temperature == 0.f) return best.token;

  GumbelMax winner(params, best, position, choice);
  if (params.top_k == 0 && params.top_p >= 1.f && params.min_p <= 0.f) {
    winner.add_all(scan);
    return winner.token();
  }
  std::vector<Candidate>& candidates = scratch.candidates;
  const double floor = min_p_floor(best.logit, params.min_p);
  if (params.top_k == 0 && params.top_p >= 1.f) {
    scan.collect(floor, candidates);
  } else {
    keep_top_k(scan, params.top_k, candidates);
    if (params.top_p < 1.f) TopP(candidates, best.logit).keep(params.top_p);
  }
  for (const Candidate& c : candidates)
    if (c.logit >= floor) winner.add(c);
  return winner.token();
}

}  // namespace hob
