#include "engine/route_trace.h"

#include <algorithm>

#include "base/error.h"

namespace hob {
namespace {

// The choices of a token, or where the trace has none the nearest: those of the next token, else of
// the next layer.
const TraceChoice* nearest(const RouteTrace& trace, int token, int layer) {
  const int n = trace.n_layers;
  for (int l = layer; l < layer + n; l++)
    for (int t = token; t < trace.n_tok(); t++)
      if (trace.has(t, l % n)) return trace.at(t, l % n);
  HOB_CHECK(false);  // the reader refuses a trace without decode tokens
  return nullptr;
}

}  // namespace

void check_trace_fits(const RouteTrace& trace, int n_experts) {
  if (n_experts == 0)
    fail(Code::kInvalidArgument, "[trace] expected a model with experts, this one is dense");
  if (trace.n_experts > n_experts)
    fail(Code::kInvalidArgument,
         "[trace] expected a model with at least {} experts (trace of {}), this one has {}",
         trace.n_experts, trace.model, n_experts);
}

int TraceRouting::trace_token(SeqId seq, int position) const {
  const RouteTrace& turn = turn_of(seq);
  const int n = turn.n_decode_tok;
  // 61 is coprime to every likely trace length, so the first sequences of a turn start far apart
  // and none coincide early.
  const auto n_turns = static_cast<int64_t>(turns_.size());
  const int offset = static_cast<int>(static_cast<int64_t>(seq) / n_turns * 61 % n);
  if (first_decode_position_ < 0 && position < turn.n_prompt_tok) return position;
  const int first = first_decode_position_ < 0 ? turn.n_prompt_tok : first_decode_position_;
  return turn.n_prompt_tok + (std::max(0, position - first) + offset) % n;
}

void TraceRouting::route(int layer, std::span<const StepRow> rows, int32_t* ids, float* weights) {
  for (const StepRow& row : rows) {
    const RouteTrace& turn = turn_of(row.seq);
    const TraceChoice* choice =
        nearest(turn, trace_token(row.seq, row.position), layer % turn.n_layers);
    for (int i = 0; i < turn.top_k; i++) {
      *ids++ = choice[i].expert;
      *weights++ = choice[i].weight;
    }
  }
}

}  // namespace hob
