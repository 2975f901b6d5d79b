#include "serve/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

#include "unit/serve/fake_service_util.h"

namespace hob {
namespace {

using namespace testing_serve;  // NOLINT

// The value of a sample line; NaN when it is not there.
double sample(const std::string& text, const std::string& name_and_labels) {
  const size_t at = text.find("\n" + name_and_labels + " ");
  return at == std::string::npos ? NAN : std::stod(text.substr(at + name_and_labels.size() + 2));
}

constexpr const char* kLabels = R"(engine="0",model_name="m")";
std::string with_labels(const std::string& name, const std::string& more = "") {
  return name + "{" + kLabels + (more.empty() ? "" : "," + more) + "}";
}

TEST(MetricsPage, HistogramsAreCumulative) {
  Metrics metrics;
  metrics.first_token(3'000'000);      // 3 ms
  metrics.first_token(2'000'000'000);  // 2 s
  const std::string text = metrics.text("m", nullptr);
  const std::string name = "vllm:time_to_first_token_seconds";
  EXPECT_EQ(sample(text, with_labels(name + "_bucket", R"(le="0.001")")), 0);
  EXPECT_EQ(sample(text, with_labels(name + "_bucket", R"(le="0.005")")), 1);
  EXPECT_EQ(sample(text, with_labels(name + "_bucket", R"(le="1")")), 1);
  EXPECT_EQ(sample(text, with_labels(name + "_bucket", R"(le="2.5")")), 2);
  EXPECT_EQ(sample(text, with_labels(name + "_bucket", R"(le="+Inf")")), 2);
  EXPECT_EQ(sample(text, with_labels(name + "_count")), 2);
  EXPECT_NEAR(sample(text, with_labels(name + "_sum")), 2.003, 1e-9);
}

TEST(MetricsPage, EngineAndExperts) {
  FakeServer fake;
  const ServeStats stats = fake.service.stats();
  const std::string text = Metrics().text("m", &stats);
  EXPECT_EQ(sample(text, with_labels("vllm:kv_cache_usage_perc")), 0.25);
  EXPECT_EQ(sample(text, with_labels("vllm:generation_tokens_total")), 42);
  EXPECT_EQ(sample(text, with_labels("hob:expert_hits_total", R"(precision="high")")), 7);
  EXPECT_EQ(sample(text, with_labels("hob:expert_hits_total", R"(precision="low")")), 3);
  EXPECT_EQ(sample(text, with_labels("hob:expert_read_bytes_total")), 4096);
  EXPECT_EQ(sample(text, with_labels("hob:expert_budget_bytes")), 1 << 20);
  EXPECT_EQ(sample(text, with_labels("hob:memory_pressure_shrinks_total")), 5);
  for (const char* name :
       {"vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:prefix_cache_queries_total",
        "vllm:prefix_cache_hits_total", "vllm:num_preemptions_total", "vllm:prompt_tokens_total"})
    EXPECT_FALSE(std::isnan(sample(text, with_labels(name)))) << name;
  EXPECT_FALSE(std::isnan(
      sample(text, with_labels("vllm:request_success_total", R"(finished_reason="stop")"))));
}

TEST(MetricsPage, EveryLineIsWellFormed) {
  FakeServer fake;
  fake.reply(post("/v1/completions", R"({"prompt":"x"})"));
  const std::string body = fake.reply(get("/metrics")).body;
  std::istringstream lines(body);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# HELP ") || line.starts_with("# TYPE ")) continue;
    const size_t open = line.find('{'), close = line.rfind("} ");
    ASSERT_NE(open, std::string::npos) << line;
    ASSERT_NE(close, std::string::npos) << line;
    EXPECT_NO_THROW(std::stod(line.substr(close + 2))) << line;
  }
}

TEST(MetricsPage, RequestsAreCounted) {
  FakeServer fake;
  fake.reply(post("/v1/completions", R"({"prompt":"x","max_tokens":5})"));
  const std::string text = fake.state.metrics().text("m", nullptr);
  EXPECT_EQ(sample(text, with_labels("vllm:time_to_first_token_seconds_count")), 1);
  EXPECT_EQ(sample(text, with_labels("vllm:inter_token_latency_seconds_count")), 4);
  EXPECT_EQ(sample(text, with_labels("vllm:e2e_request_latency_seconds_count")), 1);
  EXPECT_EQ(sample(text, with_labels("vllm:request_generation_tokens_sum")), 5);
  EXPECT_EQ(sample(text, with_labels("vllm:request_params_max_tokens_sum")), 5);
}

TEST(MetricsPage, LabelsAreEscaped) {
  const std::string text = Metrics().text("a\"b\\c\nd", nullptr);
  EXPECT_NE(text.find(R"(model_name="a\"b\\c d")"), std::string::npos);
}

}  // namespace
}  // namespace hob
