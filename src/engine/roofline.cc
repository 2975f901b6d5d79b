#include "engine/roofline.h"

#include <algorithm>

namespace hob {
namespace {

// One group of weights: moved in every step, multiplied with every row.
void add(StageWork& work, const WeightGroup& g, double n_steps, double n_rows) {
  work.bytes += n_steps * static_cast<double>(g.bytes);
  work.dot_macs += n_rows * static_cast<double>(g.n_quantised);
  work.fma_macs += n_rows * static_cast<double>(g.n_float);
}

// Experts of different layers may differ (mixed quantisations), and the counts are sums over all
// layers: an average one stands for them.
void add_experts(StageWork& work, const ModelLayout& layout, const ExpertUses& uses,
                 double n_choices) {
  const double share = 1.0 / static_cast<double>(std::max<size_t>(1, layout.work.size()));
  const auto n_low = static_cast<double>(uses.n_low);
  const double n_high = static_cast<double>(uses.n) - n_low;
  for (const LayerWork& l : layout.work) add(work, l.expert, share * n_high, share * n_choices);
  for (const ExpertLayer& layer : layout.experts.low)
    for (const ExpertMatrix& part : layer.parts)
      work.bytes +=
          share * n_low * part.rows * static_cast<double>(row_bytes(part.dtype, part.cols));
}

StageRate rate_of(const StageWork& work, double seconds, double all_seconds,
                  const MachinePeaks& peaks) {
  StageRate r;
  if (seconds <= 0 || all_seconds <= 0) return r;
  r.time_share = seconds / all_seconds;
  r.bytes_per_s = work.bytes / seconds;
  r.ops_per_s = 2 * (work.dot_macs + work.fma_macs) / seconds;
  if (peaks.ram_bytes_per_s > 0) r.ram_share = r.bytes_per_s / peaks.ram_bytes_per_s;
  if (peaks.dot_macs_per_s > 0 && peaks.fma_macs_per_s > 0)
    r.compute_share =
        (work.dot_macs / peaks.dot_macs_per_s + work.fma_macs / peaks.fma_macs_per_s) / seconds;
  return r;
}

}  // namespace

Work work_of(const ModelLayout& layout, KvType kv, const WorkCounts& counts,
             const ExpertUses& uses) {
  Work work{};
  const auto at = [&](Stage s) -> StageWork& { return work[static_cast<size_t>(s)]; };
  const AttnSpec& a = layout.spec.attn;
  const KvGeometry geometry = layout.kv(kv);
  const auto n_rows = static_cast<double>(counts.n_rows);
  const auto n_steps = static_cast<double>(counts.n_steps);
  for (size_t i = 0; i < layout.work.size(); i++) {
    const LayerWork& l = layout.work[i];
    const bool last = i + 1 == layout.work.size();
    const auto pick = [&](uint64_t all, uint64_t logit) {
      return static_cast<double>(last ? logit : all);
    };
    const double n_late_steps = pick(counts.n_steps, counts.n_logit_steps);
    const double n_late_rows = pick(counts.n_rows, counts.n_logit_rows);
    add(at(Stage::kProjections), l.qkv, n_steps, n_rows);
    add(at(Stage::kProjections), l.o, n_late_steps, n_late_rows);
    add(at(Stage::kDenseFfn), l.ffn, n_late_steps, n_late_rows);
    add(at(Stage::kExperts), l.router, n_late_steps, n_late_rows);
    const KvGeometry one{{geometry.layers[i]}, kv};
    at(Stage::kAttention).bytes +=
        pick(counts.n_context, counts.n_logit_context) * static_cast<double>(one.bytes_per_token());
    const int width = a.d_latent > 0 ? geometry.layers[i].d_k + a.d_latent : a.d_k + a.d_v;
    at(Stage::kAttention).fma_macs +=
        pick(counts.n_visible, counts.n_logit_visible) * a.n_heads * static_cast<double>(width);
  }
  add_experts(at(Stage::kExperts), layout, uses, static_cast<double>(counts.n_choices));
  add(at(Stage::kHead), layout.head, static_cast<double>(counts.n_logit_steps),
      static_cast<double>(counts.n_logit_rows));
  return work;
}

Roofline roofline(const Work& work, const StageTimes& times, double seconds,
                  const MachinePeaks& peaks) {
  Roofline r;
  StageWork all;
  const double outside = std::max(0.0, seconds - static_cast<double>(times.total()) * 1e-9);
  for (size_t i = 0; i < kNStages; i++) {
    double t = static_cast<double>(times.ns[i]) * 1e-9;
    if (i == static_cast<size_t>(Stage::kOther)) t += outside;
    r.stages[i] = rate_of(work[i], t, seconds, peaks);
    all.bytes += work[i].bytes;
    all.dot_macs += work[i].dot_macs;
    all.fma_macs += work[i].fma_macs;
  }
  r.total = rate_of(all, seconds, seconds, peaks);
  return r;
}

const char* stage_name(Stage stage) {
  constexpr std::array<const char*, kNStages> kNames = {
      "projections", "attention", "experts", "dense ffn", "head", "waiting for disk", "other"};
  return kNames[static_cast<size_t>(stage)];
}

}  // namespace hob
