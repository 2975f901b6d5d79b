#include "hf/convert.h"

#include "base/error.h"
#include "format/gguf_writer.h"

namespace hob {

void write_gguf(const HfCheckpoint& checkpoint, const std::string& path,
                const std::function<void(uint64_t, uint64_t)>& progress) {
  GgufWriter writer;
  writer.set_all(checkpoint.metadata());
  for (const HfTensor& t : checkpoint.tensors()) writer.add(t.name, t.dtype, t.shape);
  uint64_t total = 0, done = 0;
  for (const GgufWriter::Tensor& t : writer.tensors()) total += t.n_bytes;

  size_t next = 0;  // the writer asks in the order of add()
  std::vector<std::byte> buffer;
  writer.write(path, [&](const GgufWriter::Tensor& asked, const GgufWriter::Sink& sink) {
    const HfTensor& t = checkpoint.tensors()[next++];
    HOB_CHECK(t.name == asked.name);
    const int64_t n_rows = t.shape.rows(), piece = hf_piece_rows(t);
    for (int64_t row = 0; row < n_rows; row += piece) {
      const int64_t n = std::min(piece, n_rows - row);
      buffer.resize(static_cast<size_t>(n) * t.row_bytes());
      checkpoint.read_rows(t, row, n, buffer);
      sink(buffer);
      done += buffer.size();
      progress(done, total);
    }
  });
}

}  // namespace hob
