#include "sampling/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_map>

#include "base/error.h"
#include "sampling/philox.h"

namespace hob {
namespace {

struct Candidate {
  float logit;
  int32_t token;
};

// A total order (ties to the lower id), so that every filter keeps the same tokens whatever the
// sort algorithm does.
bool better(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

// A NaN or +inf can only come from a broken model or a bug: never sample from it.
std::vector<Candidate> checked_candidates(std::span<const float> logits) {
  std::vector<Candidate> out;
  out.reserve(logits.size());
  for (size_t i = 0; i < logits.size(); i++) {
    const float x = logits[i];
    if (std::isnan(x) || x == INFINITY)
      fail(Code::kInternal, "[sampling] expected finite logits, token {} has {}", i, x);
    out.push_back({x, static_cast<int32_t>(i)});
  }
  return out;
}

// Candidates still stand at their ids here.
void apply_edits(std::vector<Candidate>& candidates, const LogitEdits& edits) {
  for (const auto& [token, bias] : edits.bias) {
    HOB_CHECK(token >= 0 && static_cast<size_t>(token) < candidates.size());
    candidates[static_cast<size_t>(token)].logit += bias;
  }
  for (int32_t token : edits.banned) {
    HOB_CHECK(token >= 0 && static_cast<size_t>(token) < candidates.size());
    candidates[static_cast<size_t>(token)].logit = -INFINITY;
  }
}

// -inf: never this token.
void drop_masked(std::vector<Candidate>& candidates) {
  const size_t n = candidates.size();
  std::erase_if(candidates, [](const Candidate& c) { return c.logit == -INFINITY; });
  if (candidates.empty())
    fail(Code::kInternal, "[sampling] expected at least one finite logit, got {} of -inf", n);
}

bool has_penalties(const SamplingParams& p) {
  return p.repetition_penalty != 1.f || p.presence_penalty != 0.f || p.frequency_penalty != 0.f;
}

// As llama.cpp: repetition divides positive and multiplies negative logits; then presence and
// frequency (as OpenAI).
void apply_penalties(std::vector<Candidate>& candidates, const SamplingParams& p,
                     std::span<const int32_t> history) {
  if (!has_penalties(p)) return;
  const size_t window =
      p.penalty_window == 0 ? history.size() : static_cast<size_t>(p.penalty_window);
  std::unordered_map<int32_t, int> counts;
  for (int32_t token : history.last(std::min(window, history.size()))) counts[token]++;
  for (Candidate& c : candidates) {
    const auto it = counts.find(c.token);
    if (it == counts.end()) continue;
    c.logit = c.logit > 0 ? c.logit / p.repetition_penalty : c.logit * p.repetition_penalty;
    c.logit -= p.presence_penalty + p.frequency_penalty * static_cast<float>(it->second);
  }
}

// False: all stay as they were.
bool keep_top_k(std::vector<Candidate>& candidates, int k) {
  if (k == 0 || static_cast<size_t>(k) >= candidates.size()) return false;
  std::nth_element(candidates.begin(), candidates.begin() + k - 1, candidates.end(), better);
  candidates.resize(static_cast<size_t>(k));
  return true;
}

// The smallest set of most probable tokens whose probabilities sum to at least top_p. Sorts only as
// far as the sum needs: a vocabulary is long, the set mostly short.
void keep_top_p(std::vector<Candidate>& candidates, float top_p, bool in_id_order) {
  if (top_p >= 1.f) return;
  constexpr size_t kFirst = 512;
  // The total is summed in an order that no sort algorithm has a say in.
  size_t n_sorted = in_id_order ? std::min(kFirst, candidates.size()) : candidates.size();
  const auto begin = candidates.begin();
  const auto sort_to = [&](size_t from, size_t to) {
    const auto first = begin + static_cast<std::ptrdiff_t>(from);
    std::partial_sort(first, begin + static_cast<std::ptrdiff_t>(to), candidates.end(), better);
  };
  if (!in_id_order) sort_to(0, n_sorted);
  const double best = std::min_element(begin, candidates.end(), better)->logit;
  double total = 0;
  for (const Candidate& c : candidates) total += std::exp(c.logit - best);
  if (in_id_order) sort_to(0, n_sorted);
  double sum = 0;
  size_t n = 0;
  while (n < candidates.size() && (n == 0 || sum < top_p * total)) {
    if (n == n_sorted) {
      n_sorted = std::min(n_sorted * 4, candidates.size());
      sort_to(n, n_sorted);
    }
    sum += std::exp(candidates[n++].logit - best);
  }
  candidates.resize(n);
}

float best_logit(const std::vector<Candidate>& candidates) {
  return std::min_element(candidates.begin(), candidates.end(), better)->logit;
}

// Tokens at least min_p times as probable as the best one.
void keep_min_p(std::vector<Candidate>& candidates, float min_p) {
  if (min_p <= 0.f) return;
  const double floor = best_logit(candidates) + std::log(static_cast<double>(min_p));
  std::erase_if(candidates, [&](const Candidate& c) { return c.logit < floor; });
}

// argmax of (logit - best) / temperature + Gumbel noise, ties to the lower id.
class GumbelMax {
 public:
  GumbelMax(const SamplingParams& params, double best, uint32_t position, uint32_t choice)
      : params_(&params), best_(best), position_(position), choice_(choice) {
    double bound = 1 + 1e-6;  // for what the rounding of the scores may hide
    for (double& b : bounds_) {
      b = bound;
      bound /= 2;
    }
  }

  void add(const Candidate& c) {
    // Relative to the best logit: a tiny temperature then gives -huge, never inf - inf.
    const double x = (c.logit - best_) / params_->temperature;
    const double u =
        philox_uniform(params_->seed, choice_, position_, static_cast<uint32_t>(c.token));
    if (loses(x, u)) return;
    const double score = x - std::log(-std::log(u));
    if (token_ < 0 || score > score_ || (score == score_ && c.token < token_)) {
      score_ = score;
      token_ = c.token;
    }
  }
  int32_t token() const { return token_; }

 private:
  // To win, -log(u) must be at most exp(x - score). Nearly all tokens fail that by far, and as
  // 1 - u <= -log(u) and 2^-floor(y log2(e)) >= exp(-y), two cheap bounds prove it without a
  // logarithm.
  bool loses(double x, double u) const {
    constexpr double kLog2E = 1.4426950408889634;
    if (token_ < 0) return false;
    const double y = (score_ - x) * kLog2E;
    if (!(y > 0)) return false;
    const auto i = static_cast<size_t>(std::min(y, static_cast<double>(bounds_.size() - 1)));
    return 1 - u > bounds_[i];
  }

  const SamplingParams* params_;
  const double best_;
  const uint32_t position_, choice_;
  std::array<double, 56> bounds_;  // [i] 2^-i; 1 - u is never below 2^-53
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
  const PhiloxCounter r =
      philox4x32({choice, position, token, 0},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  // 52 bits and a half: the largest is 1 - 2^-53, exactly representable; 53 bits would round up
  // to 1.
  const uint64_t bits = (static_cast<uint64_t>(r[0]) << 32 | r[1]) >> 12;
  return std::ldexp(static_cast<double>(bits) + 0.5, -52);
}

int32_t sample(std::span<const float> logits, const SamplingParams& params,
               std::span<const int32_t> history, uint32_t position, uint32_t choice,
               const LogitEdits& edits) {
  std::vector<Candidate> candidates = checked_candidates(logits);
  apply_edits(candidates, edits);
  drop_masked(candidates);
  apply_penalties(candidates, params, history);
  if (params.temperature == 0.f)
    return std::min_element(candidates.begin(), candidates.end(), better)->token;
  const bool in_id_order = !keep_top_k(candidates, params.top_k);
  keep_top_p(candidates, params.top_p, in_id_order);
  keep_min_p(candidates, params.min_p);

  const auto best = std::min_element(candidates.begin(), candidates.end(), better);
  GumbelMax winner(params, best->logit, position, choice);
  winner.add(*best);  // first, so that the others have something to lose against
  for (const Candidate& c : candidates) winner.add(c);
  return winner.token();
}

}  // namespace hob
