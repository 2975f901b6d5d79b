#pragma once
// Routing recorded on a real model, replayed on any model or in a simulator: random weights route
// evenly, which flatters no cache (DESIGN §8).
//
// File format, lines of text:
//   # model=NAME n_layer=48 n_expert=128 n_expert_used=6
//   # layer=0 expert_bytes=3059712 ...                     one per layer, optional
//   turn,phase,step,layer,slot,expert,weight,...           names; at least these seven
//   0,0,0,0,0,49,0.221297,...
// turn: the sequence; phase 0 = prompt, 1 = decode; step = index of the token in its sequence; slot
// = 0 .. n_expert_used-1. Rows of a turn come in any order of the layers, its tokens ascending in
// each. A prompt token may lack layers whose output nobody needs (the last one, usually), and a
// layer without any row has no experts. A further column `predicted` holds what a predictor one
// layer earlier would have said (`hob trace gen`); others are ignored.
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/batch.h"

namespace hob {

struct TraceChoice {
  int32_t expert = -1;  // -1: not recorded
  float weight = 0;
};

// One turn.
struct RouteTrace {
  std::string model;
  int n_layers = 0, n_experts = 0, top_k = 0;
  int n_prompt_tok = 0, n_decode_tok = 0;
  std::vector<TraceChoice> choices;    // [n_prompt_tok + n_decode_tok, n_layers, top_k]
  std::vector<int32_t> predicted;      // the same shape, or empty
  std::vector<uint64_t> expert_bytes;  // [n_layers] of one expert, or empty

  int n_tok() const { return n_prompt_tok + n_decode_tok; }
  size_t index(int token, int layer) const {
    return (static_cast<size_t>(token) * static_cast<size_t>(n_layers) +
            static_cast<size_t>(layer)) *
           static_cast<size_t>(top_k);
  }
  const TraceChoice* at(int token, int layer) const { return &choices[index(token, layer)]; }
  bool has(int token, int layer) const { return at(token, layer)->expert >= 0; }
};

// All turns. Throws Error naming the line that is wrong, or the choice that is missing.
std::vector<RouteTrace> read_route_traces(const std::string& path);
// Throws Error(kInvalidArgument) when the model has fewer experts than the trace names.
void check_trace_fits(const RouteTrace& trace, int n_experts);

// Forces traces on the decoder: sequence s replays turn s modulo their number. A model with more
// layers than the trace starts over at the trace's first layer.
class TraceRouting : public RouteOverride {
 public:
  // At least one turn, all of one model (as read_route_traces gives them); they outlive this.
  explicit TraceRouting(std::span<const RouteTrace> turns) : turns_(turns) {}
  // Prompt: position p replays token p of the trace, its decode tokens after its prompt. Decode:
  // position p replays decode token p - first_position, in a loop; each sequence of one turn starts
  // elsewhere, as independent users would.
  void replay_prompt() { first_decode_position_ = -1; }
  void replay_decode(int first_position) { first_decode_position_ = first_position; }

  int top_k() const override { return turns_[0].top_k; }
  void route(int layer, std::span<const StepRow> rows, int32_t* ids, float* weights) override;
  // Which token of its turn a row replays.
  int trace_token(SeqId seq, int position) const;

 private:
  const RouteTrace& turn_of(SeqId seq) const {
    return turns_[static_cast<size_t>(seq) % turns_.size()];
  }

  std::span<const RouteTrace> turns_;
  int first_decode_position_ = -1;
};

}  // namespace hob
