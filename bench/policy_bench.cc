// What a decision of each eviction policy costs, with everything that it makes the cache tell the
// policy: one miss = use, choose, evict, load, pin, unpin.
//   cmake --preset release -DHOB_BENCH=ON && ninja -C build/release bench_policies &&
//   build/release/bench/bench_policies [--benchmark_filter=hobbit]
// Shape: 48 layers of 128 experts (Qwen3-30B-A3B), 2000 slots, 8 experts of each layer and token,
// about half of which miss. ns/miss: processor time of the whole exchange per miss, the hits
// between two misses included.
#include <benchmark/benchmark.h>

#include <time.h>

#include <algorithm>
#include <random>
#include <string>

#include "experts/policies/belady.h"
#include "experts/policy_table.h"

namespace {

using namespace hob;

constexpr int kLayers = 48, kPerLayer = 128, kExperts = kLayers * kPerLayer, kSlots = 2000;
constexpr int kTopK = 8, kSteps = 64;

PolicyShape shape() {
  PolicyShape s;
  s.n_layers = kLayers;
  s.n_slots = kSlots;
  for (int e = 0; e < kExperts; e++) s.layer_of.push_back(e / kPerLayer);
  return s;
}

// [step][layer][k] with skewed popularity.
std::vector<int> make_routing() {
  std::vector<int> routing;
  std::mt19937 rng(7);
  for (int i = 0; i < kSteps * kLayers; i++) {
    const size_t first = routing.size();
    while (routing.size() < first + kTopK) {
      const int e = static_cast<int>(std::min(rng() % kPerLayer, rng() % kPerLayer));
      const int id = i % kLayers * kPerLayer + e;
      if (std::find(routing.begin() + static_cast<long>(first), routing.end(), id) == routing.end())
        routing.push_back(id);
    }
  }
  return routing;
}

std::unique_ptr<ExpertPolicy> make(const std::string& name, const std::vector<int>& routing) {
  if (name != "belady") return make_policy(name, shape());
  std::vector<std::vector<int64_t>> future(kExperts);
  for (size_t i = 0; i < routing.size(); i++)
    future[static_cast<size_t>(routing[i])].push_back(static_cast<int64_t>(i) / kTopK / kLayers);
  return make_belady_policy(shape(), std::move(future));
}

class Cache {
 public:
  explicit Cache(ExpertPolicy& policy) : policy_(policy), cached_(kExperts, 0) {
    for (int slot = 0; slot < kSlots; slot++) load(slot % kLayers * kPerLayer + slot / kLayers);
    for (int slot = 0; slot < kSlots; slot++)
      policy_.set_evictable(slot % kLayers * kPerLayer + slot / kLayers, true);
  }
  void demand(const int* ids, int layer, int64_t step) {
    for (int i = 0; i < kTopK; i++) {
      policy_.on_use(ids[i], Precision::kHigh, step);
      if (cached_[static_cast<size_t>(ids[i])]) policy_.set_evictable(ids[i], false);
    }
    for (int i = 0; i < kTopK; i++) {
      if (cached_[static_cast<size_t>(ids[i])]) continue;
      n_misses_++;
      const int victim =
          policy_.choose_victim({.pool = Precision::kHigh, .layer = layer, .step = step});
      policy_.set_evictable(victim, false);
      cached_[static_cast<size_t>(victim)] = 0;
      load(ids[i]);
    }
    for (int i = 0; i < kTopK; i++) policy_.set_evictable(ids[i], true);
  }
  int64_t n_misses() const { return n_misses_; }

 private:
  void load(int expert) {
    cached_[static_cast<size_t>(expert)] = 1;
    policy_.on_load(expert);
  }

  ExpertPolicy& policy_;
  std::vector<uint8_t> cached_;
  int64_t n_misses_ = 0;
};

void run(Cache& cache, const std::vector<int>& routing, int64_t first_step) {
  for (int step = 0; step < kSteps; step++)
    for (int layer = 0; layer < kLayers; layer++)
      cache.demand(&routing[static_cast<size_t>((step * kLayers + layer) * kTopK)], layer,
                   first_step + step);
}

double cpu_ns() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

void bench(benchmark::State& state, const std::string& name) {
  const std::vector<int> routing = make_routing();
  const auto policy = make(name, routing);
  Cache cache(*policy);
  int64_t step = 0, misses = 0;
  double ns = 0;
  // Past sequences to be compared with.
  for (int i = 0; i < 4 && name == "activation"; i++, step += kSteps) {
    policy->on_sequence_start();
    run(cache, routing, step);
  }
  for (auto _ : state) {
    const int64_t before = cache.n_misses();
    const double start = cpu_ns();
    run(cache, routing, step);
    ns += cpu_ns() - start;
    misses += cache.n_misses() - before;
    step += kSteps;
  }
  state.counters["ns/miss"] = ns / static_cast<double>(misses);
  state.counters["miss_share"] = static_cast<double>(misses) /
                                 static_cast<double>(state.iterations() * kSteps * kLayers * kTopK);
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  std::vector<std::string> names;
  for (const PolicyRow& row : policy_table()) names.emplace_back(row.name);
  names.emplace_back("belady");
  for (const std::string& name : names)
    benchmark::RegisterBenchmark(name.c_str(), [name](benchmark::State& s) {
      bench(s, name);
    })->Unit(benchmark::kMillisecond);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
