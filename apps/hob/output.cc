#include "output.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "command.h"

namespace hob::app {
namespace {

[[noreturn]] void write_failed() {
  if (errno == EPIPE) throw OutputClosed();
  fail(Code::kIo, "[stdout] expected to write, the system says: {}", std::strerror(errno));
}

std::string read_all(std::FILE* file, const std::string& name) {
  std::string text;
  char buffer[1 << 16];
  size_t n = 0;
  while ((n = std::fread(buffer, 1, sizeof buffer, file)) > 0) text.append(buffer, n);
  if (std::ferror(file))
    fail(Code::kIo, "[input] expected to read {}, the system says: {}", name, std::strerror(errno));
  return text;
}

}  // namespace

void write_out(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) write_failed();
}

void flush_out() {
  if (std::fflush(stdout) != 0) write_failed();
}

void write_json(const nlohmann::ordered_json& object) {
  write_out(object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
  flush_out();
}

void note(bool quiet, std::string_view text) {
  if (!quiet) fmt::print(stderr, "{}\n", text);
}

std::string read_stdin() { return read_all(stdin, "stdin"); }

std::string read_text_file(const std::string& path) {
  if (path == "-") return read_stdin();
  if (std::filesystem::is_directory(path))
    fail(Code::kNotFound, "[input] expected a file, {} is a directory", path);
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (!file)
    fail(Code::kNotFound, "[input] expected a readable file, cannot open {}: {}", path,
         std::strerror(errno));
  const auto close = [](std::FILE* f) { std::fclose(f); };
  const std::unique_ptr<std::FILE, decltype(close)> closer(file, close);
  return read_all(file, path);
}

ProgressBar::ProgressBar(bool quiet)
    : enabled_(!quiet && isatty(STDERR_FILENO)),
      start_(std::chrono::steady_clock::now()),
      last_(start_) {}

bool ProgressBar::due(uint64_t total) const {
  const auto now = std::chrono::steady_clock::now();
  using std::chrono::milliseconds;
  return enabled_ && total > 0 && now - start_ >= milliseconds(300) &&
         now - last_ >= milliseconds(50);
}

void ProgressBar::draw(std::string_view what, double share, std::string_view rest) {
  last_ = std::chrono::steady_clock::now();
  constexpr size_t kWidth = 30;
  const auto full = static_cast<size_t>(std::min(1.0, share) * kWidth);
  fmt::print(stderr, "\r{:<8} [{}{}] {:3.0f} %{}", what, std::string(full, '#'),
             std::string(kWidth - full, ' '), std::min(1.0, share) * 100, rest);
  std::fflush(stderr);
  drawn_ = true;
}

void ProgressBar::update(std::string_view what, uint64_t done, uint64_t total) {
  if (due(total)) draw(what, static_cast<double>(done) / static_cast<double>(total), "");
}

void ProgressBar::update_bytes(std::string_view what, uint64_t done, uint64_t total,
                               uint64_t before) {
  if (!due(total)) return;
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start_;
  const double per_s = static_cast<double>(done - std::min(before, done)) / spent.count();
  std::string rest = fmt::format(" {:5.0f} MB/s", per_s / 1e6);
  if (per_s > 0) {
    const auto left_s =
        static_cast<uint64_t>(static_cast<double>(total - std::min(done, total)) / per_s);
    rest += fmt::format(", {}:{:02} left ", left_s / 60, left_s % 60);
  }
  draw(what, static_cast<double>(done) / static_cast<double>(total), rest);
}

void ProgressBar::clear() {
  if (drawn_) fmt::print(stderr, "\r{:78}\r", "");
  std::fflush(stderr);
  drawn_ = false;
}

namespace {

double share(double part, double whole) { return whole > 0 ? part / whole : 0; }

}  // namespace

std::string precision_text(const PrecisionCounts& c, std::pair<float, float> thresholds) {
  const auto n = static_cast<double>(c.n_uses);
  return fmt::format(
      "mixed precision: {:.1f} % of the uses low ({:.1f} % of the gate mass), {:.1f} % skipped "
      "({:.2f} %); T1 {:.3f}, T2 {:.3f}",
      100 * share(static_cast<double>(c.n_low), n), 100 * share(c.mass_low, c.mass),
      100 * share(static_cast<double>(c.n_skipped), n), 100 * share(c.mass_skipped, c.mass),
      thresholds.first, thresholds.second);
}

void add_precision(nlohmann::ordered_json& object, const PrecisionCounts& c,
                   std::pair<float, float> thresholds) {
  const auto n = static_cast<double>(c.n_uses);
  object["low_share"] = share(static_cast<double>(c.n_low), n);
  object["low_mass"] = share(c.mass_low, c.mass);
  object["skipped_share"] = share(static_cast<double>(c.n_skipped), n);
  object["skipped_mass"] = share(c.mass_skipped, c.mass);
  object["t1"] = thresholds.first;
  object["t2"] = thresholds.second;
}

}  // namespace hob::app
