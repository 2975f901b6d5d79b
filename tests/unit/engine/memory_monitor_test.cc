// Fault list item 36 (research notes, serving §5.2): a cgroup's limit is lowered, memory runs
// short. The expert cache shrinks, and nobody gets another answer for it.
#include "engine/memory_monitor.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "base/thread_pool.h"
#include "engine/score.h"
#include "experts/pack_builder.h"
#include "experts/pack_plan.h"
#include "format/fingerprint.h"
#include "unit/engine/serving_test_util.h"

namespace hob {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
constexpr uint64_t kMiB = 1 << 20;

class Folder {
 public:
  Folder() : path_(testing::TempDir() + "/memory_monitor_" + std::to_string(getpid())) {
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  const std::string& path() const { return path_; }
  // At once, so that nobody reads half of it.
  void write(const std::string& name, const std::string& text) const {
    const fs::path at = path_ + "/" + name;
    fs::create_directories(at.parent_path());
    std::ofstream(path_ + "/new") << text;
    fs::rename(path_ + "/new", at);
  }

 private:
  std::string path_;
};

// --- the same bits, whatever the budget does between two steps ---

std::string make_pack(const std::string& model, const std::string& path) {
  SessionOptions options;
  options.path = model;
  options.pack = "none";
  options.n_threads = 1;
  const ModelPlan plan = plan_model(options);
  const ExpertGeometry low = low_geometry(plan.layout.experts, 4);
  PackWriter writer(path, plan_pack(plan.layout.experts, *plan.backend,
                                    {.high = true, .low_bits = 4}, fingerprint_of(plan.file)));
  ThreadPool pool(2);
  build_pack(writer, {plan.layout.experts, &low, *plan.backend, pool, {}}, {});
  writer.commit();
  return path;
}

struct Bits {
  std::vector<int32_t> tokens;
  std::vector<float> logits;
  uint64_t n_evictions = 0;
};

// A prompt in chunks, then greedy tokens. With a seed the budget changes before every step.
Bits answer(const SessionOptions& options, std::optional<unsigned> seed) {
  const auto session = load_session(options);
  Engine& engine = session->engine();
  ExpertCache& experts = *session->experts();
  std::mt19937 rng(seed.value_or(0));
  const int seq = engine.open();
  engine.feed(seq, some_tokens(60), 60);
  Bits bits;
  while (bits.tokens.size() < 12) {
    if (seed) experts.set_budget(rng() % (experts.full_budget_bytes() * 5 / 4));
    int32_t next = -1;
    engine.step([&](int, int position, std::span<const float> logits) {
      bits.logits.insert(bits.logits.end(), logits.begin(), logits.end());
      if (position >= 59)
        next =
            static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    });
    EXPECT_FALSE(engine.error(seq));
    if (next < 0) continue;
    bits.tokens.push_back(next);
    engine.feed(seq, {&next, 1}, 1);
  }
  bits.n_evictions = experts.stats().evictions;
  engine.close(seq);
  return bits;
}

enum class Source { kFile, kPack, kPackMixed };
struct Start {
  const char* name;
  const char* model;
  bool resident;
  Source source;
};

class AnyBudget : public testing::TestWithParam<Start> {};

TEST_P(AnyBudget, GivesTheBitsOfAnUntouchedRun) {
  const Start& start = GetParam();
  const Folder folder;
  SessionOptions options = serving_options();
  options.path = std::string(HOB_TEST_DATA) + "/model/" + start.model;
  options.chunk = 16;
  options.max_logit_rows = 16;
  options.pack = "none";
  if (start.source != Source::kFile)
    options.pack = make_pack(options.path, folder.path() + "/p.hobpack");
  if (start.source == Source::kPackMixed) {
    options.precision.mode = PrecisionMode::kMixedSkip;
    options.precision.strict = true;  // else the version depends on what is cached
  }
  if (!start.resident) options.expert_cache_bytes = plan_model(options).plan.experts_bytes / 2;
  const Bits expected = answer(options, std::nullopt);
  EXPECT_EQ(expected.n_evictions > 0, !start.resident);
  for (const unsigned seed : {1, 2, 3}) {
    const Bits bits = answer(options, seed);
    EXPECT_EQ(bits.tokens, expected.tokens);
    ASSERT_EQ(bits.logits.size(), expected.logits.size());
    EXPECT_EQ(std::memcmp(bits.logits.data(), expected.logits.data(),
                          expected.logits.size() * sizeof(float)),
              0);
    EXPECT_GT(bits.n_evictions, 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Starts, AnyBudget,
    testing::Values(Start{"resident", "olmoe.gguf", true, Source::kFile},
                    Start{"resident_of_mixed_sizes", "mixtral-Q4_K_M.gguf", true, Source::kFile},
                    Start{"streaming", "olmoe.gguf", false, Source::kFile},
                    Start{"streaming_mixed_sizes", "mixtral-Q4_K_M.gguf", false, Source::kFile},
                    Start{"resident_pack", "olmoe.gguf", true, Source::kPack},
                    Start{"streaming_pack", "olmoe.gguf", false, Source::kPack},
                    Start{"resident_mixed_precision", "olmoe.gguf", true, Source::kPackMixed},
                    Start{"streaming_mixed_precision", "olmoe.gguf", false, Source::kPackMixed}),
    [](const auto& p) { return std::string(p.param.name); });

// --- a server in a made-up cgroup ---

struct Group {
  const bool v2;
  Folder folder;

  explicit Group(bool is_v2) : v2(is_v2) {
    folder.write("proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n");
    folder.write("proc/self/status", "VmRSS: 1 kB\n");
    folder.write("proc/self/cgroup", v2 ? "0::/hob\n" : "4:memory:/hob\n");
    limit(1024 * kMiB);
    use(512 * kMiB);
  }
  std::string at() const { return v2 ? "cgroup/hob/memory." : "cgroup/memory/hob/memory."; }
  void limit(uint64_t bytes) const {
    folder.write(at() + (v2 ? "high" : "soft_limit_in_bytes"), std::to_string(bytes) + "\n");
  }
  void use(uint64_t bytes) const {
    folder.write(at() + (v2 ? "current" : "usage_in_bytes"), std::to_string(bytes) + "\n");
  }
  MemoryMonitorOptions options() const {
    MemoryMonitorOptions o;
    o.enabled = true;
    o.paths = {folder.path() + "/proc", folder.path() + "/cgroup"};
    o.period = 2ms;
    o.times = {.shrink_s = 0.002, .stall_s = 0.02, .calm_s = 0.01, .grow_s = 0.002};
    return o;
  }
};

template <class Condition>
void wait_until(Condition condition) {
  for (int i = 0; i < 30'000 && !condition(); i++) std::this_thread::sleep_for(1ms);
  ASSERT_TRUE(condition());
}

SessionOptions monitored_options() {
  SessionOptions options = serving_options();
  options.path = std::string(HOB_TEST_DATA) + "/model/olmoe.gguf";
  return options;
}

struct Notes {
  std::mutex mutex;
  std::vector<std::string> lines;
  std::function<void(const std::string&)> taker() {
    return [this](const std::string& line) {
      const std::lock_guard lock(mutex);
      lines.push_back(line);
    };
  }
};

TEST(MemoryMonitor, Fault36IdleServerShrinksAnswersTheSameAndGrowsBack) {
  const CompletionRequest request = greedy_request("r", some_tokens(40), 20);
  const auto alone = Server(monitored_options()).run(request)->choices[0].tokens;
  for (const bool v2 : {true, false}) {
    Notes notes;
    const Group group(v2);
    CompletionEngineOptions options;
    options.max_seqs = 8;
    options.memory = group.options();
    options.memory.note = notes.taker();
    Server server(monitored_options(), options);
    const auto stats = [&] { return server.engine->stats(); };
    wait_until([&] { return stats().expert_budget_bytes > 0; });
    const uint64_t full = stats().expert_budget_bytes;
    const uint64_t least = server.session->experts()->least_budget_bytes();
    std::this_thread::sleep_for(50ms);
    EXPECT_EQ(stats().n_memory_shrinks, 0u);
    EXPECT_EQ(server.run(request)->choices[0].tokens, alone);

    group.limit(500 * kMiB);  // less than is in use, and nothing else gives way
    wait_until([&] { return stats().expert_budget_bytes == least; });
    EXPECT_LE(stats().expert_slots_bytes, least);
    const uint64_t n_shrinks = stats().n_memory_shrinks;
    EXPECT_GT(n_shrinks, 0u);
    const uint64_t n_read = stats().experts.bytes_read;
    CompletionRequest again = request;
    again.cache_salt = "again";
    EXPECT_EQ(server.run(again)->choices[0].tokens, alone);
    EXPECT_GT(stats().experts.bytes_read, n_read);

    group.limit(1024 * kMiB);
    wait_until([&] { return stats().expert_budget_bytes == full; });
    again.cache_salt = "once more";
    EXPECT_EQ(server.run(again)->choices[0].tokens, alone);
    EXPECT_EQ(stats().n_memory_shrinks, n_shrinks);
    server.engine.reset();
    ASSERT_EQ(notes.lines.size(), 2u);
    EXPECT_NE(notes.lines[0].find("memory is short"), std::string::npos) << notes.lines[0];
    EXPECT_NE(notes.lines[1].find("memory is back"), std::string::npos) << notes.lines[1];
  }
}

// The limit goes up and down every few milliseconds while eight requests run.
TEST(MemoryMonitor, Fault36RunningRequestsDoNotNotice) {
  std::vector<CompletionRequest> requests;
  std::vector<std::vector<int32_t>> alone;
  {
    Server server(monitored_options());
    for (int i = 0; i < 8; i++) {
      requests.push_back(
          greedy_request("r" + std::to_string(i), some_tokens(5 + 9 * i, 11 * i), 40));
      alone.push_back(server.run(requests.back())->choices[0].tokens);
    }
  }
  const Group group(true);
  CompletionEngineOptions options;
  options.max_seqs = 8;
  options.memory = group.options();
  Server server(monitored_options(), options);
  std::atomic<bool> done{false};
  std::thread operators([&] {
    for (bool low = true; !done; low = !low) {
      group.limit(low ? 500 * kMiB : 1024 * kMiB);
      std::this_thread::sleep_for(low ? 10ms : 60ms);
    }
  });
  for (int round = 0; round < 10 || server.engine->stats().n_memory_shrinks < 8; round++) {
    std::vector<std::shared_ptr<Recorder>> sinks;
    for (CompletionRequest& r : requests) {
      r.cache_salt = std::to_string(round);
      sinks.push_back(server.submit(r));
    }
    for (size_t i = 0; i < 8; i++) {
      sinks[i]->wait_end();
      EXPECT_EQ(sinks[i]->choices[0].tokens, alone[i]) << "request " << i << " round " << round;
    }
  }
  done = true;
  operators.join();
  EXPECT_GT(server.engine->stats().experts.evictions, 0u);
  EXPECT_GT(server.engine->stats().experts.bytes_read, 0u);
}

TEST(MemoryMonitor, DenseModelHasNothingToWatch) {
  const Group group(true);
  group.limit(1);
  CompletionEngineOptions options;
  options.memory = group.options();
  SessionOptions dense = serving_options();
  dense.path = std::string(HOB_TEST_DATA) + "/model/llama.gguf";
  Server server(dense, options);
  server.run(greedy_request("r", some_tokens(10), 5));
  EXPECT_EQ(server.engine->stats().n_memory_shrinks, 0u);
}

}  // namespace
}  // namespace hob
