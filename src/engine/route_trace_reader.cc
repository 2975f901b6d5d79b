// The text form of a trace -> RouteTrace. Every check names the line, or the choice that no line
// holds.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <limits>
#include <string_view>

#include "base/error.h"
#include "engine/route_trace.h"

namespace hob {
namespace {

constexpr std::string_view kColumns = "turn,phase,step,layer,slot,expert,weight";
constexpr size_t kMinColumns = 7;
constexpr size_t kNone = std::numeric_limits<size_t>::max();

struct TraceRow {
  int turn = 0, phase = 0, step = 0, layer = 0, slot = 0, expert = 0;
  float weight = 0;
  int predicted = -1;
};

class Reader {
 public:
  explicit Reader(const std::string& path) : path_(path), in_(path) {
    if (!in_) fail(Code::kNotFound, "[trace] expected a readable file, cannot open {}", path);
  }

  std::vector<RouteTrace> read() {
    std::string line;
    while (std::getline(in_, line)) {
      line_++;
      if (!line.empty() && line.back() == '\r') line.pop_back();
      if (line.empty()) continue;
      if (line.starts_with('#'))
        read_comment(line);
      else if (line.starts_with("turn,"))
        read_column_names(line);
      else
        read_row(line);
    }
    if (in_.bad()) fail(Code::kIo, "[trace] expected to read {}, the system refused", path_);
    if (turns_.empty()) {
      check_header();
      fail(Code::kDataLoss, "[trace] {}: expected at least one decode token, it has no rows",
           path_);
    }
    end_turn();
    return std::move(turns_);
  }

 private:
  template <class... Args>
  [[noreturn]] void bad_line(fmt::format_string<Args...> format, Args&&... args) const {
    fail(Code::kDataLoss, "[trace] {}:{}: {}", path_, line_,
         fmt::format(format, std::forward<Args>(args)...));
  }

  // --- comments ---

  // The number after `key=`; `otherwise` when it is not there.
  template <class T>
  T header_number(std::string_view line, std::string_view key, T otherwise) const {
    const size_t start = line.find(key);
    if (start == std::string_view::npos) return otherwise;
    T value{};
    const auto [end, error] =
        std::from_chars(line.data() + start + key.size(), line.data() + line.size(), value);
    if (error != std::errc()) bad_line("expected a number after '{}', got '{}'", key, line);
    return value;
  }

  void read_comment(std::string_view line) {
    const size_t model = line.find("model=");
    if (model != std::string_view::npos) {
      const size_t end = std::min(line.find(' ', model), line.size());
      header_.model = line.substr(model + 6, end - model - 6);
      header_.n_layers = header_number(line, "n_layer=", 0);
      header_.n_experts = header_number(line, "n_expert=", 0);
      header_.top_k = header_number(line, "n_expert_used=", 0);
      check_header();
      return;
    }
    const int layer = header_number(line, "# layer=", -1);
    const auto bytes = header_number<uint64_t>(line, " expert_bytes=", 0);
    if (layer < 0 || bytes == 0) return;
    if (layer >= header_.n_layers) bad_line("expected layer < {}, got {}", header_.n_layers, layer);
    header_.expert_bytes.resize(static_cast<size_t>(header_.n_layers), 0);
    header_.expert_bytes[static_cast<size_t>(layer)] = bytes;
  }

  void check_header() const {
    constexpr int kMost = 4096;  // layers, experts and k beyond this are typing errors, not models
    const RouteTrace& t = header_;
    constexpr int kMostChoices = 1 << 16;  // of a token: bounds what one line can allocate
    const bool ok = t.n_layers > 0 && t.n_layers <= kMost && t.n_experts > 0 &&
                    t.n_experts <= kMost && t.top_k > 0 && t.top_k <= t.n_experts &&
                    t.n_layers * t.top_k <= kMostChoices;
    if (ok) return;
    fail(
        Code::kDataLoss,
        "[trace] {}: expected a header '# model=NAME n_layer=N n_expert=N n_expert_used=N', got {}",
        path_,
        t.model.empty()
            ? "none"
            : fmt::format("layers {}, experts {}, used {}", t.n_layers, t.n_experts, t.top_k));
  }

  void read_column_names(std::string_view line) {
    const bool whole = line.size() == kColumns.size() || line[kColumns.size()] == ',';
    if (!line.starts_with(kColumns) || !whole)
      bad_line("expected columns {},..., got {}", kColumns, line);
    n_columns_ = 1 + static_cast<size_t>(std::count(line.begin(), line.end(), ','));
    predicted_column_ = kNone;
    size_t column = 0;
    while (!line.empty()) {
      const size_t comma = std::min(line.find(','), line.size());
      if (line.substr(0, comma) == "predicted") predicted_column_ = column;
      line.remove_prefix(std::min(comma + 1, line.size()));
      column++;
    }
  }

  // --- rows ---

  template <class T>
  T number(std::string_view field) const {
    T value{};
    const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
    if (error != std::errc() || end != field.data() + field.size())
      bad_line("expected a number, got '{}'", field);
    return value;
  }

  TraceRow parse(std::string_view line) {
    const size_t n = 1 + static_cast<size_t>(std::count(line.begin(), line.end(), ','));
    if (n_columns_ == 0) n_columns_ = n;
    if (n != n_columns_ || n < kMinColumns)
      bad_line("expected {} columns, got {}", std::max(n_columns_, kMinColumns), n);
    if (line.back() == ',') bad_line("expected a value in column {}, got none", n);
    TraceRow row;
    int* const fields[] = {&row.turn, &row.phase, &row.step, &row.layer, &row.slot, &row.expert};
    for (size_t column = 0; column < n; column++) {
      const size_t comma = std::min(line.find(','), line.size());
      const std::string_view field = line.substr(0, comma);
      if (column < std::size(fields))
        *fields[column] = number<int>(field);
      else if (column == std::size(fields))
        row.weight = number<float>(field);
      else if (column == predicted_column_)
        row.predicted = number<int>(field);
      line.remove_prefix(std::min(comma + 1, line.size()));
    }
    return row;
  }

  void read_row(std::string_view line) {
    check_header();
    const TraceRow r = parse(line);
    if (turns_.empty() || r.turn != turn_) {
      if (!turns_.empty()) {
        if (r.turn < turn_) bad_line("expected turn {} or later, got {}", turn_, r.turn);
        end_turn();
      }
      turn_ = r.turn;
      turns_.push_back(header_);
    }
    check(r, turns_.back());
    add(r, turns_.back());
  }

  void check(const TraceRow& r, const RouteTrace& t) const {
    if (r.phase < 0 || r.phase > 1) bad_line("expected phase 0 or 1, got {}", r.phase);
    if (r.step < 0 || r.step > t.n_tok())
      bad_line("expected a token <= {}, got {}", t.n_tok(), r.step);
    const int phase = r.step == t.n_tok() ? (t.n_decode_tok > 0 ? 1 : r.phase)
                                          : (r.step < t.n_prompt_tok ? 0 : 1);
    if (r.phase != phase) bad_line("expected phase {} of token {}, got {}", phase, r.step, r.phase);
    if (r.layer < 0 || r.layer >= t.n_layers)
      bad_line("expected layer < {}, got {}", t.n_layers, r.layer);
    if (r.slot < 0 || r.slot >= t.top_k) bad_line("expected slot < {}, got {}", t.top_k, r.slot);
    if (r.expert < 0 || r.expert >= t.n_experts)
      bad_line("expected expert < {}, got {}", t.n_experts, r.expert);
    if (r.predicted < -1 || r.predicted >= t.n_experts)
      bad_line("expected a predicted expert < {}, got {}", t.n_experts, r.predicted);
    if (!std::isfinite(r.weight) || r.weight < 0)
      bad_line("expected a weight >= 0, got {}", r.weight);
  }

  void add(const TraceRow& r, RouteTrace& t) const {
    if (r.step == t.n_tok()) {
      (r.phase == 0 ? t.n_prompt_tok : t.n_decode_tok)++;
      t.choices.resize(t.index(t.n_tok(), 0));
      if (predicted_column_ != kNone) t.predicted.resize(t.choices.size(), -1);
    }
    TraceChoice* const row = &t.choices[t.index(r.step, r.layer)];
    if (row[r.slot].expert >= 0)
      bad_line("expected one row for token {}, layer {}, slot {}, this is the second", r.step,
               r.layer, r.slot);
    for (int i = 0; i < t.top_k; i++)
      if (row[i].expert == r.expert)
        bad_line("expected distinct experts for token {}, layer {}, got {} twice", r.step, r.layer,
                 r.expert);
    row[r.slot] = {r.expert, r.weight};
    if (predicted_column_ != kNone)
      t.predicted[t.index(r.step, r.layer) + static_cast<size_t>(r.slot)] = r.predicted;
  }

  // Every token has all of its layer's choices, or for a prompt's unneeded layer none.
  void end_turn() const {
    const RouteTrace& t = turns_.back();
    for (int layer = 0; layer < t.n_layers; layer++) {
      bool any = false;
      for (int token = 0; token < t.n_tok() && !any; token++) any = count(t, token, layer) > 0;
      if (!any) continue;  // a layer without experts
      for (int token = 0; token < t.n_tok(); token++) {
        const int n = count(t, token, layer);
        if (n == t.top_k || (n == 0 && token < t.n_prompt_tok)) continue;
        fail(Code::kDataLoss,
             "[trace] {}: turn {}, token {}, layer {}: expected {} choices, {} are missing", path_,
             turn_, token, layer, t.top_k, t.top_k - n);
      }
    }
    if (t.n_decode_tok == 0)
      fail(Code::kDataLoss, "[trace] {}: turn {}: expected at least one decode token, it has none",
           path_, turn_);
  }
  static int count(const RouteTrace& t, int token, int layer) {
    const TraceChoice* row = t.at(token, layer);
    return static_cast<int>(
        std::count_if(row, row + t.top_k, [](const TraceChoice& c) { return c.expert >= 0; }));
  }

  const std::string& path_;
  std::ifstream in_;
  int line_ = 0;
  RouteTrace header_;
  size_t n_columns_ = 0, predicted_column_ = kNone;
  int turn_ = 0;
  std::vector<RouteTrace> turns_;
};

}  // namespace

std::vector<RouteTrace> read_route_traces(const std::string& path) { return Reader(path).read(); }

}  // namespace hob
