#include "engine/route_trace.h"

#include <algorithm>

#include "base/error.h"

namespace hob {

RouteTrace read_route_trace(const std::string& path) {
  return std::move(read_route_traces(path).front());
}

void check_trace_fits(const RouteTrace& trace, int n_experts) {
  if (n_experts == 0)
    fail(Code::kInvalidArgument, "[trace] expected a model with experts, this one is dense");
  if (trace.n_experts > n_experts)
    fail(Code::kInvalidArgument,
         "[trace] expected a model with at least {} experts (trace of {}), this one has {}",
         trace.n_experts, trace.model, n_experts);
}

int TraceRouting::trace_token(SeqId seq, int position) const {
  const int n = trace_->n_decode_tok;
  // 61 is coprime to every likely trace length, so the first sequences start far apart and none
  // coincide early.
  const int offset = static_cast<int>(static_cast<int64_t>(seq) * 61 % n);
  if (first_decode_position_ < 0 && position < trace_->n_prompt_tok) return position;
  const int first = first_decode_position_ < 0 ? trace_->n_prompt_tok : first_decode_position_;
  return trace_->n_prompt_tok + (std::max(0, position - first) + offset) % n;
}

const TraceChoice* TraceRouting::nearest(int token, int layer) const {
  const int n = trace_->n_layers;
  for (int l = layer; l < layer + n; l++)
    for (int t = token; t < trace_->n_tok(); t++)
      if (trace_->has(t, l % n)) return trace_->at(t, l % n);
  HOB_CHECK(false);  // the reader refuses a trace without decode tokens
  return nullptr;
}

void TraceRouting::route(int layer, std::span<const StepRow> rows, int32_t* ids, float* weights) {
  for (const StepRow& row : rows) {
    const TraceChoice* choice =
        nearest(trace_token(row.seq, row.position), layer % trace_->n_layers);
    for (int i = 0; i < trace_->top_k; i++) {
      *ids++ = choice[i].expert;
      *weights++ = choice[i].weight;
    }
  }
}

}  // namespace hob
