#include "serve/metrics.h"

#include <fmt/format.h>

#include <algorithm>

namespace hob {
namespace {

// vLLM's buckets, so that its dashboards work.
constexpr double kFirstTokenBuckets[] = {.001, .005, .01, .02, .04, .06, .08, .1, .25, .5,  .75,
                                         1,    2.5,  5,   7.5, 10,  20,  40,  80, 160, 640, 2560};
constexpr double kInterTokenBuckets[] = {.01, .025, .05, .075, .1,  .15, .2, .3, .4, .5,
                                         .75, 1,    2.5, 5,    7.5, 10,  20, 40, 80};
constexpr double kRequestBuckets[] = {.3, .5, .8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                      30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680};
constexpr double kTokenBuckets[] = {1,   2,    5,    10,   20,    50,    100,   200,
                                    500, 1000, 2000, 5000, 10000, 20000, 50000, 100000};
constexpr double kChoiceBuckets[] = {1, 2, 5, 10, 20};

constexpr const char* kFinishNames[5] = {"stop", "length", "abort", "deadline", "error"};

double seconds(int64_t ns) { return static_cast<double>(ns) * 1e-9; }

// In label values only these three are special.
std::string escaped(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

class Page {
 public:
  explicit Page(std::string labels) : labels_(std::move(labels)) {}
  void head(const std::string& name, const char* type, const char* help) {
    text += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
  }
  void value(const std::string& name, double value, const std::string& more = "") {
    text += fmt::format("{}{{{}{}}} {}\n", name, labels_, more.empty() ? "" : "," + more, value);
  }
  void gauge(const std::string& name, const char* help, double x) {
    head(name, "gauge", help);
    value(name, x);
  }
  void counter(const std::string& name, const char* help, uint64_t x) {
    head(name, "counter", help);
    value(name, static_cast<double>(x));
  }
  std::string text;

 private:
  std::string labels_;
};

void print_engine(const ServeStats& s, Page& page) {
  page.gauge("vllm:num_requests_running", "Requests that run.", s.n_running);
  page.gauge("vllm:num_requests_waiting", "Requests that wait.", s.n_waiting);
  page.gauge("vllm:kv_cache_usage_perc", "Share of the KV blocks in use, 0 to 1.",
             s.n_kv_blocks > 0 ? static_cast<double>(s.n_kv_blocks_used) / s.n_kv_blocks : 0);
  page.counter("vllm:prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.",
               s.n_prefix_queries_tok);
  page.counter("vllm:prefix_cache_hits_total", "Prompt tokens found in the prefix cache.",
               s.n_prefix_hits_tok);
  page.counter("vllm:num_preemptions_total", "Preemptions.", s.n_preemptions);
  page.counter("vllm:prompt_tokens_total", "Prompt tokens processed.", s.n_prompt_tok);
  page.counter("vllm:generation_tokens_total", "Tokens generated.", s.n_generated_tok);
  page.counter("vllm:spec_decode_num_drafts_total", "Drafts verified.", s.speculation.n_drafts);
  page.counter("vllm:spec_decode_num_draft_tokens_total", "Tokens of these.",
               s.speculation.n_draft_tok);
  page.counter("vllm:spec_decode_num_accepted_tokens_total", "Of these, accepted.",
               s.speculation.n_accepted_tok);
  if (s.remote.is_remote) {
    page.counter("hob:edge_rounds_total", "Rounds that the server verified.", s.remote.n_rounds);
    page.counter("hob:edge_guessed_rounds_total", "Of these, with guesses of their end sent along.",
                 s.remote.n_guessed);
    page.counter("hob:edge_guess_hits_total", "Of these, with a right one.", s.remote.n_hits);
    page.counter("hob:edge_resumes_total", "Answers that went on over a new link.",
                 s.remote.n_resumes);
    page.counter("hob:edge_streamed_tokens_total", "Tokens that the server wrote alone.",
                 s.remote.n_streamed_tok);
    page.counter("hob:edge_alone_tokens_total",
                 "Tokens that the draft model wrote while the server was away.",
                 s.remote.n_alone_tok);
    page.counter("hob:edge_unverified_tokens_total",
                 "Of these, in answers that ended without the server.", s.remote.n_unverified_tok);
    page.counter("hob:edge_sent_bytes_total", "Frames to the server.", s.remote.bytes_up);
    page.counter("hob:edge_received_bytes_total", "Frames from it.", s.remote.bytes_down);
    page.gauge("hob:edge_rtt_seconds", "Round trip to the server, smoothed.", s.remote.rtt_s);
    page.gauge("hob:edge_verify_seconds", "A step of the server, smoothed.", s.remote.verify_s);
  }
  page.head("vllm:request_success_total", "counter", "Choices that ended, by reason.");
  for (size_t i = 0; i < 5; i++)
    page.value("vllm:request_success_total", static_cast<double>(s.n_finished[i]),
               fmt::format("finished_reason=\"{}\"", kFinishNames[i]));
  page.head("vllm:cache_config_info", "gauge", "The KV cache.");
  page.value("vllm:cache_config_info", 1,
             fmt::format("block_size=\"16\",num_gpu_blocks=\"{}\"", s.n_kv_blocks));
  page.counter("hob:prompt_tokens_cached_total", "Prompt tokens not computed again.",
               s.n_cached_tok);
  page.counter("hob:kv_slot_steps_total",
               "Token slots that running requests held, summed over steps.", s.n_kv_slot_steps);
  page.counter("hob:kv_token_steps_total", "Those of them that held a token.", s.n_kv_token_steps);
  page.counter("hob:steps_total", "Steps of the engine.", s.n_steps);
  page.counter("hob:rows_total", "Tokens that went through the model, all steps.", s.n_rows);
}

void print_experts(const ServeStats& s, Page& page) {
  const ExpertCacheStats& e = s.experts;
  page.head("hob:expert_hits_total", "counter", "Expert uses served from memory, by precision.");
  page.value("hob:expert_hits_total", static_cast<double>(e.hits - std::min(e.hits, e.low_hits)),
             "precision=\"high\"");
  page.value("hob:expert_hits_total", static_cast<double>(e.low_hits), "precision=\"low\"");
  page.head("hob:expert_misses_total", "counter", "Expert uses that needed a read, by precision.");
  page.value("hob:expert_misses_total",
             static_cast<double>(e.misses - std::min(e.misses, e.low_misses)),
             "precision=\"high\"");
  page.value("hob:expert_misses_total", static_cast<double>(e.low_misses), "precision=\"low\"");
  page.counter("hob:expert_skips_total", "Unimportant experts left out.", e.skips);
  page.counter("hob:expert_read_bytes_total", "Bytes of experts read from disk.", e.bytes_read);
  page.counter("hob:expert_read_errors_total", "Expert reads that failed.", e.read_errors);
  page.head("hob:expert_stall_seconds_total", "counter", "Time the engine waited for experts.");
  page.value("hob:expert_stall_seconds_total", static_cast<double>(e.stall_ns) * 1e-9);
  page.counter("hob:expert_evictions_total", "Experts evicted.", e.evictions);
  page.counter("hob:expert_prefetches_total", "Expert reads started ahead.", e.prefetches);
  page.counter("hob:expert_prefetches_used_total", "Of these, wanted by the next demand.",
               e.prefetches_used);
  page.gauge("hob:decode_width",
             "Sequences that decode together while experts are streamed; 0 = all.", s.decode_width);
  page.gauge("hob:expert_slots_bytes", "Memory of the expert slots.",
             static_cast<double>(s.expert_slots_bytes));
  page.gauge("hob:expert_budget_bytes", "Memory that the expert slots may have at present.",
             static_cast<double>(s.expert_budget_bytes));
  page.counter("hob:memory_pressure_shrinks_total",
               "Times that memory pressure shrank the expert cache.", s.n_memory_shrinks);
}

}  // namespace

Histogram::Histogram(std::span<const double> bounds)
    : bounds_(bounds.begin(), bounds.end()), counts_(bounds.size() + 1) {}

void Histogram::observe(double value) {
  const auto bound = std::lower_bound(bounds_.begin(), bounds_.end(), value);
  counts_[static_cast<size_t>(bound - bounds_.begin())]++;
  sum_ += value;
  count_++;
}

void Histogram::print(const std::string& name, const std::string& labels, std::string& out) const {
  out += fmt::format("# TYPE {} histogram\n", name);
  uint64_t below = 0;
  for (size_t i = 0; i < counts_.size(); i++) {
    below += counts_[i];
    const std::string le = i < bounds_.size() ? fmt::format("{}", bounds_[i]) : "+Inf";
    out += fmt::format("{}_bucket{{{},le=\"{}\"}} {}\n", name, labels, le, below);
  }
  out +=
      fmt::format("{}_sum{{{}}} {}\n{}_count{{{}}} {}\n", name, labels, sum_, name, labels, count_);
}

Metrics::Metrics()
    : ttft_(kFirstTokenBuckets),
      itl_(kInterTokenBuckets),
      e2e_(kRequestBuckets),
      queue_(kRequestBuckets),
      prefill_(kRequestBuckets),
      decode_(kRequestBuckets),
      inference_(kRequestBuckets),
      prompt_tok_(kTokenBuckets),
      generation_tok_(kTokenBuckets),
      max_generation_tok_(kTokenBuckets),
      params_n_(kChoiceBuckets),
      params_max_tok_(kTokenBuckets) {}

void Metrics::first_token(int64_t ns) {
  std::lock_guard lock(mutex_);
  ttft_.observe(seconds(ns));
}

void Metrics::inter_token(int64_t ns) {
  std::lock_guard lock(mutex_);
  itl_.observe(seconds(ns));
}

void Metrics::finished(const FinishedRequest& r) {
  std::lock_guard lock(mutex_);
  e2e_.observe(seconds(r.e2e_ns));
  queue_.observe(r.usage.queue_s);
  prefill_.observe(r.usage.prefill_s);
  decode_.observe(r.usage.decode_s);
  inference_.observe(r.usage.prefill_s + r.usage.decode_s);
  prompt_tok_.observe(r.usage.n_prompt_tok);
  generation_tok_.observe(r.usage.n_completion_tok);
  max_generation_tok_.observe(static_cast<double>(r.usage.n_completion_tok) / std::max(r.n, 1));
  params_n_.observe(r.n);
  if (r.max_tok >= 0) params_max_tok_.observe(r.max_tok);
}

void Metrics::replied(int status) {
  std::lock_guard lock(mutex_);
  replies_[status]++;
}

void Metrics::print_histograms(const std::string& labels, std::string& out) const {
  ttft_.print("vllm:time_to_first_token_seconds", labels, out);
  itl_.print("vllm:inter_token_latency_seconds", labels, out);
  e2e_.print("vllm:e2e_request_latency_seconds", labels, out);
  queue_.print("vllm:request_queue_time_seconds", labels, out);
  prefill_.print("vllm:request_prefill_time_seconds", labels, out);
  decode_.print("vllm:request_decode_time_seconds", labels, out);
  inference_.print("vllm:request_inference_time_seconds", labels, out);
  prompt_tok_.print("vllm:request_prompt_tokens", labels, out);
  generation_tok_.print("vllm:request_generation_tokens", labels, out);
  max_generation_tok_.print("vllm:request_max_num_generation_tokens", labels, out);
  params_n_.print("vllm:request_params_n", labels, out);
  params_max_tok_.print("vllm:request_params_max_tokens", labels, out);
}

std::string Metrics::text(const std::string& model, const ServeStats* stats) const {
  const std::string labels = fmt::format("engine=\"0\",model_name=\"{}\"", escaped(model));
  Page page(labels);
  page.gauge("hob:ready", "1 when the model is loaded.", stats ? 1 : 0);
  if (stats) {
    print_engine(*stats, page);
    print_experts(*stats, page);
  }
  std::lock_guard lock(mutex_);
  page.head("hob:http_replies_total", "counter", "HTTP replies by status.");
  for (const auto& [status, n] : replies_)
    page.value("hob:http_replies_total", static_cast<double>(n),
               fmt::format("code=\"{}\"", status));
  print_histograms(labels, page.text);
  return page.text;
}

}  // namespace hob
