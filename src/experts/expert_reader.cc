#include "experts/expert_reader.h"

#include <algorithm>
#include <utility>

#include "base/align.h"
#include "base/error.h"

namespace hob {
namespace {

uint64_t buffer_bytes(const ExpertGeometry& geometry) {
  uint64_t largest = 0;
  for (const ExpertLayer& layer : geometry.layers) {
    if (layer.n_experts == 0) continue;
    uint64_t n = 0;
    for (const ExpertMatrix& m : layer.parts) n += largest_read(m);
    largest = std::max(largest, n);
  }
  return largest;
}

}  // namespace

ExpertReader::ExpertReader(const ExpertGeometry& geometry) : geometry_(geometry) {
  const uint64_t n_bytes = buffer_bytes(geometry);
  HOB_CHECK(n_bytes > 0);
  for (Buffer& buffer : buffers_) buffer.bytes = AlignedBuffer(n_bytes);
  reader_ =
      make_async_reader(geometry.files, {.depth = static_cast<int>(2 * 3 * ExpertReads::kMost)});
}

void ExpertReader::start(ExpertKey key) {
  HOB_CHECK(n_started_ - n_taken_ < buffers_.size());
  const size_t slot = n_started_++ % buffers_.size();
  Buffer& buffer = buffers_[slot];
  buffer.key = key;
  const ExpertLayer& layer = geometry_.layers[static_cast<size_t>(key.layer)];
  std::vector<ReadOp> ops;
  std::byte* dst = buffer.bytes.data();
  for (size_t part = 0; part < 3; part++) {
    const ExpertReads reads = layer.parts[part].reads_of(key.expert);
    for (size_t i = 0; i < reads.ranges().size(); i++) {
      const ByteRange& r = reads.ranges()[i];
      const uint64_t head = r.offset % kIoAlign, n_required = head + r.n_bytes;
      ops.push_back({.file = r.file,
                     .offset = r.offset - head,
                     .n_bytes = round_up(n_required, kIoAlign),
                     .n_required = n_required,
                     .dst = dst,
                     .tag = slot});
      buffer.read[part][i] = dst + head;
      dst += ops.back().n_bytes;
    }
  }
  buffer.n_reading = static_cast<int>(ops.size());
  reader_->submit(ops);
}

StockExpert ExpertReader::next() {
  HOB_CHECK(n_taken_ < n_started_);
  Buffer& buffer = buffers_[n_taken_++ % buffers_.size()];
  while (buffer.n_reading > 0)
    for (const ReadDone& done : reader_->wait()) {
      Buffer& owner = buffers_[done.tag];
      owner.n_reading--;
      if (done.error && !owner.error) owner.error = done.error;
    }
  if (buffer.error) std::rethrow_exception(std::exchange(buffer.error, nullptr));
  return stock_of(buffer);
}

StockExpert ExpertReader::stock_of(const Buffer& buffer) {
  const ExpertLayer& layer = geometry_.layers[static_cast<size_t>(buffer.key.layer)];
  StockExpert stock;
  for (size_t part = 0; part < 3; part++) {
    const ExpertMatrix& m = layer.parts[part];
    stock[part] = buffer.read[part][0];
    if (!m.is_made()) continue;
    made_[part].resize(m.bytes_per_expert);
    const size_t n = m.reads_of(buffer.key.expert).size();
    geometry_.maker->make(static_cast<size_t>(m.made_tensor), int64_t{buffer.key.expert} * m.rows,
                          m.rows, {buffer.read[part].data(), n}, made_[part].data());
    stock[part] = made_[part].data();
  }
  return stock;
}

}  // namespace hob
