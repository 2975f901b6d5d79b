#pragma once
// Predicts speed from what a machine was measured to do and what a model must move. Pure; printed
// by `hob plan`.
//
//   decode:  t_token = t_dense + max(t_experts, t_disk) + t_kv
//     t_dense    bytes of dense weights / rate of the products on one row, measured per element
//     type t_experts  k experts per layer, likewise, in the model's own shapes t_disk     missed
//     experts' bytes / disk rate: reads overlap the experts' products but not the dense part,
//     because
//                a layer's experts are known only when its router has run
//     t_kv       KV cache bytes at the given depth / memory bandwidth
//   prefill: the same for a chunk of rows: multiply-adds / measured rate; the union of the chunk's
//   experts is read once. Misses under uniform routing: every expert is equally likely, so a use
//   hits with the share of experts in memory.
#include <cstdint>
#include <vector>

#include "tensor/dtype.h"

namespace hob {

// One part of the work of a step: all dense products of one element type, or all expert products.
struct WorkShare {
  uint64_t bytes = 0;             // read per decoded token
  uint64_t n_weights = 0;         // multiply-adds per token
  double decode_bytes_per_s = 0;  // measured on one row
  double prefill_macs_per_s = 0;  // measured on a chunk
};

struct SpeedInput {
  std::vector<WorkShare> dense;
  WorkShare experts;              // k experts of every layer; 0 bytes = dense model
  uint64_t expert_bytes = 0;      // one expert as stored in the file, mean
  uint64_t kv_bytes_per_tok = 0;  // per position that attention visits
  int n_moe_layers = 0, n_experts = 0, top_k = 0;
  double cached_share = 1;   // of the experts' bytes
  double layer_seconds = 0;  // per token: everything that is no product (norms, barriers), measured
  int chunk = 1;
  double ram_bytes_per_s = 0, disk_bytes_per_s = 0;
  double hit_rate = -1;  // of decode, from a trace; < 0 = uniform routing
};

struct SpeedEstimate {
  double hit_rate = 1;
  double decode_tok_s = 0, prefill_tok_s = 0;
  double t_dense = 0, t_experts = 0, t_disk = 0, t_other = 0;  // seconds per decoded token
  double disk_bytes_per_tok = 0;
};

// `depth`: tokens already in the KV cache.
SpeedEstimate predict_speed(const SpeedInput& in, int depth);

// Expected number of distinct experts that `n_tok` tokens choose in one layer under uniform
// routing.
double expected_union(int n_experts, int top_k, int n_tok);

}  // namespace hob
