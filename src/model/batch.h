#pragma once
#include <cstdint>
#include <exception>
#include <span>
#include <vector>

#include "kv/kv_store.h"

namespace hob {

// One row = one token of one sequence in this step. Rows of a sequence are in position order.
struct StepRow {
  int32_t token = 0;
  int32_t position = 0;
  SeqId seq = 0;
  int32_t kv_write_slot = 0;
  std::span<const int32_t>
      kv_read;  // position-ordered slots of the sequence; [0, position] are visible
  bool want_logits = false;
  int32_t adapter = -1;  // LoRA adapter, none yet
};

// Everything the decoder needs to know about a step. May hold many sequences and both prefill and
// decode rows.
struct StepBatch {
  std::vector<StepRow> rows;
  int n_logits() const;
};

// A forced routing, for benches with recorded traces: ids [n_rows, k] for a layer. Overrides the
// router's choice.
class RouteOverride {
 public:
  virtual ~RouteOverride() = default;
  virtual int top_k() const = 0;
  virtual void route(int layer, std::span<const StepRow> rows, int32_t* ids, float* weights) = 0;
};

// Sees what every layer of every step chose, for recording. Changes nothing.
class RouteObserver {
 public:
  virtual ~RouteObserver() = default;
  // ids, weights [n_rows, k]; the weights with which the outputs are added. An id that is no
  // expert: the router had no choice (NaN).
  virtual void on_route(int layer, std::span<const StepRow> rows, std::span<const int32_t> ids,
                        std::span<const float> weights) = 0;
};

}  // namespace hob
