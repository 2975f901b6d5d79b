#include "quant/resumable_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "base/hash.h"

namespace hob {
namespace {

std::string partial(const std::string& path) { return path + ".partial"; }
std::string journal(const std::string& path) { return path + ".partial.journal"; }

// All lines have one length, so that line i lies at i * kLine.
constexpr size_t kLine = 34;
std::string line(uint64_t first, uint64_t second) {
  return fmt::format("{:016x} {:016x}\n", first, second);
}
std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

}  // namespace

ResumableFile::ResumableFile(std::string path, uint64_t key, uint64_t n_bytes,
                             std::vector<Piece> pieces)
    : path_(std::move(path)),
      key_(key),
      n_bytes_(n_bytes),
      pieces_(std::move(pieces)),
      data_(partial(path_), O_RDWR | O_CREAT),
      journal_(journal(path_), O_RDWR | O_CREAT) {
  // Who waited for the lock may hold a file that has been renamed meanwhile.
  if (!data_.try_lock() || !data_.is_named_path())
    fail(Code::kIo, "[quantize] {}: expected nobody else to write it, another process does", path_);
  resume();
  if (n_done_ > 0) return;
  try {
    start_anew();
  } catch (const Error&) {
    remove_partial(path_);
    throw;
  }
}

void ResumableFile::resume() {
  if (journal_.size() < kLine) return;
  std::string text(kLine, '\0');
  const auto read_line = [&](size_t i) {
    return journal_.read_at(i * kLine, std::as_writable_bytes(std::span(text))) == kLine;
  };
  discarded_ = !read_line(0) || text != line(key_, n_bytes_) || data_.size() != n_bytes_;
  if (discarded_) return;
  while (n_done_ < pieces_.size() && read_line(n_done_ + 1)) {
    unsigned long long piece = 0, hash = 0;
    if (std::sscanf(text.c_str(), "%16llx %16llx", &piece, &hash) != 2) break;
    if (piece != n_done_ || !intact(n_done_, hash)) break;
    bytes_found_ += pieces_[n_done_++].n_bytes;
  }
  journal_.truncate((n_done_ + 1) * kLine);
}

bool ResumableFile::intact(size_t piece, uint64_t hash) const {
  Hash64 found;
  std::vector<std::byte> buffer(std::min<uint64_t>(pieces_[piece].n_bytes, 1 << 20));
  for (uint64_t at = 0; at < pieces_[piece].n_bytes; at += buffer.size()) {
    const uint64_t n = std::min<uint64_t>(buffer.size(), pieces_[piece].n_bytes - at);
    const auto part = std::span(buffer).first(n);
    if (data_.read_at(pieces_[piece].offset + at, part) != n) return false;
    found.add(part);
  }
  return found.value() == hash;
}

void ResumableFile::start_anew() {
  journal_.truncate(0);
  data_.truncate(0);
  data_.reserve(n_bytes_);
  journal_.write_at(0, bytes_of(line(key_, n_bytes_)));
}

// The hash tells whether the bytes reached the disk, so neither file needs a sync here.
void ResumableFile::write_next(std::span<const std::byte> bytes) {
  HOB_CHECK(n_done_ < pieces_.size() && bytes.size() == pieces_[n_done_].n_bytes);
  data_.write_at(pieces_[n_done_].offset, bytes);
  journal_.write_at((n_done_ + 1) * kLine, bytes_of(line(n_done_, hash64(bytes))));
  n_done_++;
}

void ResumableFile::finish(std::span<const std::byte> beginning) {
  HOB_CHECK(n_done_ == pieces_.size());
  data_.sync();
  data_.write_at(0, beginning);
  data_.sync();
  if (std::rename(partial(path_).c_str(), path_.c_str()) != 0)
    fail(Code::kIo, "[file] {}: cannot rename, {}", partial(path_), std::strerror(errno));
  ::unlink(journal(path_).c_str());
  sync_folder_of(path_);
}

void remove_partial(const std::string& path) {
  ::unlink(partial(path).c_str());
  ::unlink(journal(path).c_str());
}

}  // namespace hob
