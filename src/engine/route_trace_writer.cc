#include "engine/route_trace_writer.h"

#include <iterator>

#include "base/error.h"

namespace hob {

namespace {

// Names cannot hold what ends a field of the header.
std::string one_word(std::string name) {
  for (char& c : name)
    if (static_cast<unsigned char>(c) <= ' ') c = '_';
  return name.empty() ? "unnamed" : name;
}

constexpr size_t kFlushBytes = 1 << 20;

}  // namespace

RouteTraceWriter::RouteTraceWriter(const std::string& path, const RouteTrace& header,
                                   bool with_predicted)
    : file_(path), expert_bytes_(header.expert_bytes), with_predicted_(with_predicted) {
  buffer_ = fmt::format("# route_trace v1\n# model={} n_layer={} n_expert={} n_expert_used={}\n",
                        one_word(header.model), header.n_layers, header.n_experts, header.top_k);
  for (size_t layer = 0; layer < expert_bytes_.size(); layer++)
    if (expert_bytes_[layer] > 0)
      fmt::format_to(std::back_inserter(buffer_), "# layer={} expert_bytes={}\n", layer,
                     expert_bytes_[layer]);
  buffer_ += "turn,phase,step,layer,slot,expert,weight,residency,expert_bytes";
  buffer_ += with_predicted_ ? ",predicted\n" : "\n";
}

void RouteTraceWriter::add(const Place& p, std::span<const TraceChoice> choices,
                           std::span<const int32_t> predicted) {
  HOB_CHECK(!with_predicted_ || predicted.size() == choices.size());
  const uint64_t bytes = expert_bytes_.empty() ? 0 : expert_bytes_[static_cast<size_t>(p.layer)];
  for (size_t slot = 0; slot < choices.size(); slot++) {
    // Residency 0: whether it was in memory depends on a cache, which a trace has none of.
    fmt::format_to(std::back_inserter(buffer_), "{},{},{},{},{},{},{:.6g},0,{}", p.turn, p.phase,
                   p.step, p.layer, slot, choices[slot].expert, choices[slot].weight, bytes);
    if (with_predicted_) fmt::format_to(std::back_inserter(buffer_), ",{}", predicted[slot]);
    buffer_ += '\n';
  }
  if (buffer_.size() >= kFlushBytes) flush();
}

void RouteTraceWriter::add_turn(int turn, const RouteTrace& t) {
  const auto k = static_cast<size_t>(t.top_k);
  for (int token = 0; token < t.n_tok(); token++)
    for (int layer = 0; layer < t.n_layers; layer++) {
      if (!t.has(token, layer)) continue;
      std::span<const int32_t> predicted;
      if (with_predicted_) predicted = std::span(t.predicted).subspan(t.index(token, layer), k);
      add({turn, token < t.n_prompt_tok ? 0 : 1, token, layer}, {t.at(token, layer), k}, predicted);
    }
}

void RouteTraceWriter::flush() {
  file_.write(std::as_bytes(std::span(buffer_)));
  buffer_.clear();
}

void RouteTraceWriter::finish() {
  flush();
  file_.commit();
}

void RouteRecorder::on_route(int layer, std::span<const StepRow> rows, std::span<const int32_t> ids,
                             std::span<const float> weights) {
  if (rows.empty()) return;
  const size_t k = ids.size() / rows.size();
  choices_.resize(k);
  for (size_t row = 0; row < rows.size(); row++) {
    for (size_t i = 0; i < k; i++) {
      choices_[i] = {ids[row * k + i], weights[row * k + i]};
      // NaN in weights or activations leaves a router without a choice.
      if (choices_[i].expert < 0 || !(choices_[i].weight >= 0))
        fail(Code::kDataLoss, "[trace] blk.{}, token {}: expected a routing to record, got NaN",
             layer, rows[row].position);
    }
    const int position = rows[row].position;
    writer_->add({0, position < n_prompt_tok_ ? 0 : 1, position, layer}, choices_);
  }
}

}  // namespace hob
