#pragma once
// Synthetic routing with stated locality, for benches without a recorded trace. Ref: research
// notes, hobbit.md §5.4. It flatters nobody only as far as its parameters are stated with every
// result.
#include <cstdint>
#include <vector>

#include "engine/route_trace.h"

namespace hob {

struct TraceGeneratorOptions {
  int n_layers = 48, n_experts = 128, top_k = 8;
  int n_prompt_tok = 32, n_decode_tok = 128, n_turns = 1;
  // Share of a token's experts that the token before chose too, on average. Public figures: .18 to
  // .54.
  double overlap = 0.38;
  double alpha = 1.1;      // Zipf exponent of popularity within a layer, 1.0 to 1.2 in the wild
  double model_mix = 0.5;  // 1: every sequence likes the same experts, 0: each its own
  // A predictor one layer ahead names an expert rightly with this probability; 10 points less in
  // the first layers.
  double accuracy = 0.9;
  uint64_t expert_bytes = 3 << 20;
  uint64_t seed = 1;
};

// Throws Error(kInvalidArgument) for values out of range. The same options give the same trace.
std::vector<RouteTrace> generate_route_traces(const TraceGeneratorOptions& options);

}  // namespace hob
