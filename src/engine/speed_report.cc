#include "engine/speed_report.h"

#include <algorithm>
#include <map>

#include "engine/hit_simulator.h"

namespace hob {
namespace {

size_t pool_of(const ModelPlan& m) { return probe_pool_bytes(m.plan.budget_bytes); }

bool is_expert_tensor(const RawTensor& t) { return t.name.find("_exps.") != std::string::npos; }

// Dense products of one element type; the widest matrix stands for the shape.
struct DenseGroup {
  uint64_t bytes = 0, n_weights = 0;
  int d_out = 0, d_in = 0;
};

// Dense matrices that every token reads: all but the embedding table, unless it is also the head.
std::map<DType, DenseGroup> dense_groups(const ModelPlan& m) {
  std::map<DType, DenseGroup> groups;
  for (const RawTensor& t : m.file.tensors()) {
    if (t.shape.n_dims != 2 || is_expert_tensor(t)) continue;
    if (t.name == "token_embd.weight" && !m.layout.spec.tied_embeddings) continue;
    DenseGroup& g = groups[t.dtype];
    const auto rows = static_cast<int>(t.shape.rows()), cols = static_cast<int>(t.shape.cols());
    g.bytes += m.backend->prepared_bytes(t.dtype, rows, cols);
    g.n_weights += static_cast<uint64_t>(t.shape.n_elements());
    if (static_cast<int64_t>(g.d_out) * g.d_in < t.shape.n_elements()) {
      g.d_out = rows;
      g.d_in = cols;
    }
  }
  return groups;
}

void add_dense(ModelPlan& m, int chunk, SpeedInput& in) {
  for (const auto& [dtype, g] : dense_groups(m)) {
    // 4096 outputs are enough to see the rate; the head's 150k rows would only cost probe time.
    const LinearProbe probe = {dtype, std::min(g.d_out, 4096), g.d_in, std::min(chunk, 128)};
    const ProductRate rate = measure_linear(*m.backend, probe, pool_of(m));
    in.dense.push_back({g.bytes, g.n_weights, rate.decode_bytes_per_s, rate.prefill_macs_per_s});
  }
}

const ExpertLayer* first_moe_layer(const ExpertGeometry& geometry) {
  const auto it = std::find_if(geometry.layers.begin(), geometry.layers.end(),
                               [](const ExpertLayer& l) { return l.n_experts > 0; });
  return it == geometry.layers.end() ? nullptr : &*it;
}

void add_experts(ModelPlan& m, const ExpertLayer& layer, SpeedInput& in) {
  const MoeSpec& moe = m.layout.spec.moe;
  in.n_experts = moe.n_experts;
  in.top_k = moe.top_k;
  uint64_t prepared = 0, stored = 0, weights = 0, n = 0;
  for (const ExpertLayer& l : m.layout.experts.layers) {
    if (l.n_experts == 0) continue;
    in.n_moe_layers++;
    for (const ExpertMatrix& part : l.parts) {
      prepared += m.backend->prepared_bytes(part.dtype, part.rows, part.cols);
      stored += part.bytes_per_expert;
      weights += static_cast<uint64_t>(part.rows) * static_cast<uint64_t>(part.cols);
    }
    n++;
  }
  const int rows_each = std::max(1, in.chunk * moe.top_k / moe.n_experts);
  const ProductRate rate = measure_experts(
      *m.backend, layer, {.k = moe.top_k, .rows_per_expert = rows_each}, pool_of(m));
  const auto k = static_cast<uint64_t>(moe.top_k);
  in.experts = {k * prepared, k * weights, rate.decode_bytes_per_s, rate.prefill_macs_per_s};
  in.expert_bytes = stored / n;
  in.cached_share = static_cast<double>(m.plan.expert_cache_bytes) /
                    static_cast<double>(std::max<uint64_t>(1, m.plan.experts_bytes));
}

// Several rounds of the recorded traces (some 130 tokens of decode each).
constexpr int kSimulatedTokens = 512;

CacheShape cache_shape(const ModelPlan& m) {
  CacheShape shape{.moe_layers = {},
                   .n_experts = m.layout.spec.moe.n_experts,
                   .n_slots = 0,
                   .policy = m.cache.policy};
  const auto& layers = m.layout.experts.layers;
  for (size_t i = 0; i < layers.size(); i++)
    if (layers[i].n_experts > 0) shape.moe_layers.push_back(static_cast<int>(i));
  const double share =
      static_cast<double>(m.plan.expert_cache_bytes) / static_cast<double>(m.plan.experts_bytes);
  shape.n_slots =
      static_cast<int>(share * static_cast<double>(shape.moe_layers.size()) * shape.n_experts);
  return shape;
}

}  // namespace

SpeedReport measure_and_predict(ModelPlan& m, RouteOverride* routing) {
  SpeedReport report;
  SpeedInput& in = report.input;
  const ModelSpec& spec = m.layout.spec;
  in.chunk = std::min(m.plan.chunk, m.options.n_ctx);
  in.kv_bytes_per_tok = m.layout.kv(m.options.kv).bytes_per_token();
  in.ram_bytes_per_s = measure_ram_bandwidth(m.backend->n_threads(), pool_of(m));
  add_dense(m, in.chunk, in);
  if (const ExpertLayer* layer = first_moe_layer(m.layout.experts)) {
    add_experts(m, *layer, in);
    if (!m.plan.resident) {
      if (routing) in.hit_rate = simulate_decode_hits(*routing, cache_shape(m), kSimulatedTokens);
      const DiskProbe disk = measure_disk_bandwidth(m.layout.experts, m.cache);
      in.disk_bytes_per_s = disk.bytes_per_s;
      report.disk_direct = disk.direct;
    }
  }
  in.layer_seconds = spec.n_layers * measure_layer_overhead(*m.backend, spec.d_model,
                                                            spec.moe.n_experts, spec.moe.top_k);
  report.estimate = predict_speed(in, /*depth=*/0);
  return report;
}

}  // namespace hob
