#pragma once
// Routing recorded on a real model, replayed on any model: random weights route evenly, which
// flatters no cache (DESIGN §8). File format: `# model=... n_layer=48 n_expert=128
// n_expert_used=6`, then rows turn,phase,step,layer,slot,expert,weight,...; phase 0 = prompt, 1 =
// decode; step = index of the token.
#include <cstdint>
#include <string>
#include <vector>

#include "model/batch.h"

namespace hob {

struct TraceChoice {
  int32_t expert = 0;
  float weight = 0;
};

struct RouteTrace {
  std::string model;
  int n_layers = 0, n_experts = 0, top_k = 0;
  int n_prompt_tok = 0, n_decode_tok = 0;
  std::vector<TraceChoice> choices;  // [n_prompt_tok + n_decode_tok, n_layers, top_k]

  const TraceChoice* at(int token, int layer) const {
    return &choices[(static_cast<size_t>(token) * static_cast<size_t>(n_layers) +
                     static_cast<size_t>(layer)) *
                    static_cast<size_t>(top_k)];
  }
};

// Throws Error naming the line that is wrong.
RouteTrace read_route_trace(const std::string& path);
// Throws Error(kInvalidArgument) when the model has fewer experts than the trace names.
void check_trace_fits(const RouteTrace& trace, int n_experts);

// Forces the trace on the decoder. A model with more layers than the trace starts over at the
// trace's first layer.
class TraceRouting : public RouteOverride {
 public:
  explicit TraceRouting(const RouteTrace& trace) : trace_(&trace) {}
  // Prompt: position p replays token p of the trace, its decode tokens after its prompt. Decode:
  // position p replays decode token p - first_position, in a loop; each sequence starts elsewhere,
  // as independent users would.
  void replay_prompt() { first_decode_position_ = -1; }
  void replay_decode(int first_position) { first_decode_position_ = first_position; }

  int top_k() const override { return trace_->top_k; }
  void route(int layer, std::span<const StepRow> rows, int32_t* ids, float* weights) override;
  // Which token of the trace a row replays.
  int trace_token(SeqId seq, int position) const;

 private:
  const RouteTrace* trace_;
  int first_decode_position_ = -1;
};

}  // namespace hob
