#include "experts/expert_reader.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace hob {
namespace {

uint64_t page_down(uint64_t n) { return n / kIoAlign * kIoAlign; }
uint64_t page_up(uint64_t n) { return page_down(n + kIoAlign - 1); }

// A matrix may begin and end anywhere in a page.
uint64_t read_bytes(const ExpertMatrix& m) { return page_up(m.bytes_per_expert) + kIoAlign; }

uint64_t buffer_bytes(const ExpertGeometry& geometry) {
  uint64_t largest = 0;
  for (const ExpertLayer& layer : geometry.layers) {
    if (layer.n_experts == 0) continue;
    uint64_t n = 0;
    for (const ExpertMatrix& m : layer.parts) n += read_bytes(m);
    largest = std::max(largest, n);
  }
  return largest;
}

}  // namespace

ExpertReader::ExpertReader(const ExpertGeometry& geometry) : geometry_(geometry) {
  const uint64_t n_bytes = buffer_bytes(geometry);
  HOB_CHECK(n_bytes > 0);
  for (Buffer& buffer : buffers_) buffer.bytes = AlignedBuffer(n_bytes);
  reader_ = make_async_reader(geometry.files, {.depth = 6});
}

void ExpertReader::start(ExpertKey key) {
  HOB_CHECK(n_started_ - n_taken_ < buffers_.size());
  const size_t slot = n_started_++ % buffers_.size();
  Buffer& buffer = buffers_[slot];
  const ExpertLayer& layer = geometry_.layers[static_cast<size_t>(key.layer)];
  std::array<ReadOp, 3> ops;
  std::byte* dst = buffer.bytes.data();
  for (size_t part = 0; part < 3; part++) {
    const ExpertMatrix& m = layer.parts[part];
    const uint64_t begin = m.offset + static_cast<uint64_t>(key.expert) * m.bytes_per_expert;
    const uint64_t end = begin + m.bytes_per_expert, aligned = page_down(begin);
    ops[part] = {.file = m.file,
                 .offset = aligned,
                 .n_bytes = page_up(end) - aligned,
                 .n_required = end - aligned,
                 .dst = dst,
                 .tag = slot};
    buffer.parts[part] = dst + (begin - aligned);
    dst += read_bytes(m);
  }
  buffer.n_reading = 3;
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
  return buffer.parts;
}

}  // namespace hob
