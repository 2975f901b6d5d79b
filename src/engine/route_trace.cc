#include "engine/route_trace.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <string_view>

#include "base/error.h"

namespace hob {
namespace {

struct TraceRow {
  int turn = 0, phase = 0, step = 0, layer = 0, slot = 0;
  TraceChoice choice;
};

// Where in the file an error is.
struct Cursor {
  const std::string& path;
  int line = 0;
};

template <class T>
T parse_field(std::string_view& rest, const Cursor& at) {
  const size_t comma = std::min(rest.find(','), rest.size());
  T value{};
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + comma, value);
  if (error != std::errc() || end != rest.data() + comma)
    fail(Code::kDataLoss, "[trace] {}:{}: expected a number, got '{}'", at.path, at.line,
         rest.substr(0, comma));
  rest.remove_prefix(std::min(comma + 1, rest.size()));
  return value;
}

TraceRow parse_row(std::string_view line, const Cursor& at) {
  TraceRow row;
  for (int* field : {&row.turn, &row.phase, &row.step, &row.layer, &row.slot, &row.choice.expert})
    *field = parse_field<int>(line, at);
  row.choice.weight = parse_field<float>(line, at);
  return row;
}

// The number after `key=` in a comment line; 0 when it is not there.
int header_number(std::string_view line, std::string_view key) {
  const size_t start = line.find(key);
  if (start == std::string_view::npos) return 0;
  int value = 0;
  std::from_chars(line.data() + start + key.size(), line.data() + line.size(), value);
  return value;
}

void read_header(std::string_view line, RouteTrace& trace) {
  const size_t model = line.find("model=");
  if (model == std::string_view::npos) return;
  const size_t end = std::min(line.find(' ', model), line.size());
  trace.model = line.substr(model + 6, end - model - 6);
  trace.n_layers = header_number(line, "n_layer=");
  trace.n_experts = header_number(line, "n_expert=");
  trace.top_k = header_number(line, "n_expert_used=");
}

void check_header(const RouteTrace& t, const std::string& path) {
  constexpr int kMost = 4096;  // layers, experts and k beyond this are typing errors, not models
  const bool ok = t.n_layers > 0 && t.n_layers <= kMost && t.n_experts > 0 &&
                  t.n_experts <= kMost && t.top_k > 0 && t.top_k <= t.n_experts;
  if (!ok)
    fail(
        Code::kDataLoss,
        "[trace] {}: expected a header '# model=NAME n_layer=N n_expert=N n_expert_used=N', got {}",
        path,
        t.model.empty()
            ? "none"
            : fmt::format("layers {}, experts {}, used {}", t.n_layers, t.n_experts, t.top_k));
}

void check_row(const TraceRow& r, const RouteTrace& t, int n_tokens, const Cursor& at) {
  const bool token_ok = r.step == n_tokens || r.step == n_tokens - 1;
  if (!token_ok || r.phase < 0 || r.phase > 1 || r.layer < 0 || r.layer >= t.n_layers ||
      r.slot < 0 || r.slot >= t.top_k || r.choice.expert < 0 || r.choice.expert >= t.n_experts ||
      !(r.choice.weight >= 0))
    fail(Code::kDataLoss,
         "[trace] {}:{}: expected token {} or {}, layer < {}, slot < {}, expert < {}, got {}, {}, "
         "{}, {}",
         at.path, at.line, n_tokens - 1, n_tokens, t.n_layers, t.top_k, t.n_experts, r.step,
         r.layer, r.slot, r.choice.expert);
}

void add_row(const TraceRow& r, RouteTrace& t, int& n_tokens) {
  if (r.step == n_tokens) {
    n_tokens++;
    (r.phase == 0 ? t.n_prompt_tok : t.n_decode_tok)++;
    t.choices.resize(
        t.choices.size() + static_cast<size_t>(t.n_layers) * static_cast<size_t>(t.top_k), {-1, 0});
  }
  const_cast<TraceChoice*>(t.at(r.step, r.layer))[r.slot] = r.choice;
}

}  // namespace

RouteTrace read_route_trace(const std::string& path) {
  std::ifstream in(path);
  if (!in) fail(Code::kNotFound, "[trace] expected a readable file, cannot open {}", path);
  RouteTrace trace;
  std::string line;
  int n_tokens = 0;
  Cursor at{path};
  while (std::getline(in, line)) {
    at.line++;
    if (line.empty() || line.starts_with("turn,")) continue;
    if (line.starts_with('#')) {
      read_header(line, trace);
      continue;
    }
    if (n_tokens == 0) check_header(trace, path);
    const TraceRow row = parse_row(line, at);
    if (row.turn > 0) break;  // one prompt and its answer are what is replayed
    check_row(row, trace, n_tokens, at);
    add_row(row, trace, n_tokens);
  }
  check_header(trace, path);
  const auto hole = std::find_if(trace.choices.begin(), trace.choices.end(),
                                 [](const TraceChoice& c) { return c.expert < 0; });
  if (hole != trace.choices.end() || trace.n_decode_tok == 0)
    fail(Code::kDataLoss,
         "[trace] {}: expected {} choices for each of {} layers of every token and at least one "
         "decode "
         "token, some are missing",
         path, trace.top_k, trace.n_layers);
  return trace;
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

void TraceRouting::route(int layer, std::span<const StepRow> rows, int32_t* ids, float* weights) {
  for (const StepRow& row : rows) {
    const TraceChoice* choice =
        trace_->at(trace_token(row.seq, row.position), layer % trace_->n_layers);
    for (int i = 0; i < trace_->top_k; i++) {
      *ids++ = choice[i].expert;
      *weights++ = choice[i].weight;
    }
  }
}

}  // namespace hob
