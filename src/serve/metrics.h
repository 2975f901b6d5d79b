#pragma once
// Prometheus' text format, under vLLM's names where vLLM has one. Ref: research notes, serving
// §1.6.
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "engine/completion.h"
#include "engine/completion_engine.h"

namespace hob {

// Cumulative buckets with upper bounds.
class Histogram {
 public:
  explicit Histogram(std::span<const double> bounds);
  void observe(double value);
  uint64_t count() const { return count_; }
  // name_bucket{labels,le="..."} ..., name_sum, name_count
  void print(const std::string& name, const std::string& labels, std::string& out) const;

 private:
  std::vector<double> bounds_;
  std::vector<uint64_t> counts_;  // one more: +Inf
  double sum_ = 0;
  uint64_t count_ = 0;
};

struct FinishedRequest {
  CompletionUsage usage;
  FinishReason finish = FinishReason::kStop;
  int64_t e2e_ns = 0;
  int max_tok = -1;
  int n = 1;
};

// What only the HTTP side sees. Any thread.
class Metrics {
 public:
  Metrics();
  void first_token(int64_t ns);
  void inter_token(int64_t ns);
  void finished(const FinishedRequest& request);
  void replied(int status);  // of any HTTP request

  // `stats`: of the engine; null while loading.
  std::string text(const std::string& model, const ServeStats* stats) const;

 private:
  void print_histograms(const std::string& labels, std::string& out) const;

  mutable std::mutex mutex_;
  Histogram ttft_, itl_, e2e_, queue_, prefill_, decode_, inference_;
  Histogram prompt_tok_, generation_tok_, max_generation_tok_, params_n_, params_max_tok_;
  std::map<int, uint64_t> replies_;  // by status
};

}  // namespace hob
