#include "engine/speed_model.h"

#include <algorithm>
#include <cmath>

namespace hob {
namespace {

double seconds(double amount, double rate) { return amount > 0 && rate > 0 ? amount / rate : 0; }

double disk_seconds(const SpeedInput& in, double n_experts_read) {
  return seconds(n_experts_read * static_cast<double>(in.expert_bytes), in.disk_bytes_per_s);
}

double prefill_seconds(const SpeedInput& in, double miss_rate) {
  double t_dense = 0;
  for (const WorkShare& share : in.dense)
    t_dense += seconds(static_cast<double>(share.n_weights) * in.chunk, share.prefill_macs_per_s);
  const double t_experts =
      seconds(static_cast<double>(in.experts.n_weights) * in.chunk, in.experts.prefill_macs_per_s);
  const double n_read =
      in.n_moe_layers * expected_union(in.n_experts, in.top_k, in.chunk) * miss_rate;
  return t_dense + std::max(t_experts, disk_seconds(in, n_read)) + in.layer_seconds;
}

}  // namespace

double expected_union(int n_experts, int top_k, int n_tok) {
  if (n_experts == 0) return 0;
  return n_experts * (1 - std::pow(1 - static_cast<double>(top_k) / n_experts, n_tok));
}

SpeedEstimate predict_speed(const SpeedInput& in, int depth) {
  SpeedEstimate out;
  const double uniform = in.n_experts ? std::min(1.0, in.cached_share) : 1.0;
  out.hit_rate = in.hit_rate >= 0 ? in.hit_rate : uniform;
  for (const WorkShare& share : in.dense)
    out.t_dense += seconds(static_cast<double>(share.bytes), share.decode_bytes_per_s);
  out.t_experts = seconds(static_cast<double>(in.experts.bytes), in.experts.decode_bytes_per_s);
  const double n_read = static_cast<double>(in.n_moe_layers) * in.top_k * (1 - out.hit_rate);
  out.disk_bytes_per_tok = n_read * static_cast<double>(in.expert_bytes);
  out.t_disk = disk_seconds(in, n_read);
  out.t_other = in.layer_seconds +
                seconds(static_cast<double>(in.kv_bytes_per_tok) * depth, in.ram_bytes_per_s);
  out.decode_tok_s =
      1 / std::max(1e-12, out.t_dense + std::max(out.t_experts, out.t_disk) + out.t_other);
  out.prefill_tok_s = in.chunk / std::max(1e-12, prefill_seconds(in, 1 - uniform));
  return out;
}

}  // namespace hob
