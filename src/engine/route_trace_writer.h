#pragma once
// Writes what read_route_traces reads.
#include <span>
#include <string>

#include "engine/route_trace.h"
#include "format/atomic_file.h"

namespace hob {

// The file appears under its name with finish(), whole.
class RouteTraceWriter {
 public:
  // `header`: model, sizes and expert_bytes; its choices are not written. `with_predicted`: a
  // column more.
  RouteTraceWriter(const std::string& path, const RouteTrace& header, bool with_predicted);

  struct Place {
    int turn = 0, phase = 0, step = 0, layer = 0;
  };
  // The top_k choices of one token in one layer. `predicted`: empty, or as many.
  void add(const Place& place, std::span<const TraceChoice> choices,
           std::span<const int32_t> predicted = {});
  void add_turn(int turn, const RouteTrace& trace);
  void finish();

 private:
  void flush();

  AtomicFile file_;
  std::vector<uint64_t> expert_bytes_;  // [n_layers] or empty
  bool with_predicted_;
  std::string buffer_;
};

// Records the routing of one sequence while a model runs it: positions below n_prompt_tok are the
// prompt.
class RouteRecorder final : public RouteObserver {
 public:
  RouteRecorder(RouteTraceWriter& writer, int n_prompt_tok)
      : writer_(&writer), n_prompt_tok_(n_prompt_tok) {}
  void on_route(int layer, std::span<const StepRow> rows, std::span<const int32_t> ids,
                std::span<const float> weights) override;

 private:
  RouteTraceWriter* writer_;
  int n_prompt_tok_;
  std::vector<TraceChoice> choices_;
};

}  // namespace hob
