#pragma once
// Everything that is written: results to stdout, checked; notes and progress to stderr.
#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "model/moe_options.h"

namespace hob::app {

// Writes to stdout. Throws OutputClosed when the reader has gone, Error(kIo) when the disk is full
// and the like.
void write_out(std::string_view text);
void flush_out();
// One object on one line. Bytes that are no UTF-8 become U+FFFD.
void write_json(const nlohmann::ordered_json& object);
// "served low 21.3 % of the uses (12.0 % of the gate mass), ...": what a mixed mode did.
std::string precision_text(const PrecisionCounts& counts, std::pair<float, float> thresholds);
void add_precision(nlohmann::ordered_json& object, const PrecisionCounts& counts,
                   std::pair<float, float> thresholds);
// A line on stderr, unless quiet.
void note(bool quiet, std::string_view text);

std::string read_stdin();                             // all bytes
std::string read_text_file(const std::string& path);  // "-" = stdin; Error(kNotFound | kIo)

// A bar on stderr for work that takes over 0.3 s; on a terminal only, and never with --quiet.
// Erased when it ends.
class ProgressBar {
 public:
  explicit ProgressBar(bool quiet);
  ~ProgressBar() { clear(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  void update(std::string_view what, uint64_t done, uint64_t total);
  // The same for bytes of which `before` were there at the start: with MB/s and the time left.
  void update_bytes(std::string_view what, uint64_t done, uint64_t total, uint64_t before = 0);
  void clear();

 private:
  void draw(std::string_view what, double share, std::string_view rest);
  bool due(uint64_t total) const;

  bool enabled_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point start_, last_;
};

}  // namespace hob::app
