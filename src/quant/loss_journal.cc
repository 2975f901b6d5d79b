#include "quant/loss_journal.h"

#include <fcntl.h>

#include <bit>
#include <cstdio>

#include "base/error.h"

namespace hob {
namespace {

// All lines have one length: a kind, two numbers, and a mixture of them that a torn line lacks.
constexpr size_t kLine = 57;
constexpr std::string_view kMagic = "hobloss";

std::string line(std::string_view kind, uint64_t first, uint64_t second) {
  return fmt::format("{:<7} {:016x} {:016x} {:014x}\n", kind, first, second,
                     (first * 31 + second) * 0x9E3779B97F4A7C15u >> 8);
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

}  // namespace

LossJournal::LossJournal(const std::string& path, uint64_t key) : file_(path, O_RDWR | O_CREAT) {
  if (!file_.try_lock())
    fail(Code::kIo, "[quantize] {}: expected nobody else to write it, another process does", path);
  std::string text(kLine, '\0');
  const auto read_line = [&](uint64_t at) {
    return file_.read_at(at, std::as_writable_bytes(std::span(text))) == kLine;
  };
  const std::string first = line(kMagic, key, 0);
  const bool whole = read_line(0);
  if (file_.size() > 0 && !text.starts_with(kMagic))
    fail(Code::kInvalidArgument, "[quantize] {}: expected a file of measured losses or none", path);
  if (!whole || text != first) {
    file_.truncate(0);
    file_.write_at(0, bytes_of(first));
    end_ = kLine;
    return;
  }
  for (end_ = kLine; read_line(end_); end_ += kLine) {
    unsigned long long index = 0, bits = 0;
    if (std::sscanf(text.c_str(), "loss %16llx %16llx", &index, &bits) != 2) break;
    if (text != line("loss", index, bits)) break;
    values_[index] = std::bit_cast<double>(uint64_t{bits});
  }
  file_.truncate(end_);
}

const double* LossJournal::find(uint64_t index) const {
  const auto it = values_.find(index);
  return it == values_.end() ? nullptr : &it->second;
}

void LossJournal::add(uint64_t index, double value) {
  file_.write_at(end_, bytes_of(line("loss", index, std::bit_cast<uint64_t>(value))));
  end_ += kLine;
  values_[index] = value;
}

}  // namespace hob
