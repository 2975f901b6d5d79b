#pragma once
// Runs a text through a model and collects the Hessians of some of its layers.
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "engine/model_session.h"
#include "quant/hessian.h"

namespace hob {

enum class LinearInput : uint8_t {
  kAttention,  // of q, k, v
  kHeads,      // of o
  kFfn,        // of gate and up
  kHidden,     // of down
};

// The matrices that share an input share a Hessian.
struct InputKey {
  int layer = 0;
  LinearInput input = LinearInput::kAttention;
  int expert = -1;  // -1: attention, dense FFN, shared expert
  auto operator<=>(const InputKey&) const = default;
};

using Hessians = std::map<InputKey, HessianSum>;

struct LayerRange {
  int first = 0, end = 0;
};

// What the Hessians of a layer take.
uint64_t hessian_bytes(const ModelSpec& spec, int layer);

// At most n_tok of the tokens, in whole windows spread evenly over the text: one that begins with
// prose and ends with code should be seen as both.
std::vector<int32_t> sample_windows(std::span<const int32_t> tokens, size_t n_tok, size_t window);

// Of a session that allows kCalibrationRows; see run_observed (engine/observed_run.h) for the text,
// the progress and what is thrown.
Hessians collect_hessians(ModelSession& session, std::span<const int32_t> tokens, LayerRange layers,
                          ThreadPool& pool,
                          const std::function<void(uint64_t, uint64_t)>& progress);

// All that the layer's routed experts saw, for experts that saw too little themselves; null when
// none saw anything.
std::unique_ptr<HessianSum> sum_of_experts(const Hessians& all, int layer, LinearInput input);

}  // namespace hob
