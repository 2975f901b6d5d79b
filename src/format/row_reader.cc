#include "format/row_reader.h"

#include <algorithm>

#include "base/error.h"

namespace hob {

RowReader::RowReader(const ModelFile& model) : model_(model) {
  for (const std::string& path : model.files())
    sources_.push_back(std::make_unique<FileSource>(path));
}

void RowReader::read(const RawTensor& tensor, int64_t first, int64_t n, std::span<std::byte> dst) {
  const size_t bytes = row_bytes(tensor.dtype, tensor.shape.cols());
  HOB_CHECK(first >= 0 && n >= 0 && first + n <= tensor.shape.rows());
  HOB_CHECK(dst.size() == static_cast<size_t>(n) * bytes);
  if (tensor.file != kMadeTensor) {
    const uint64_t at = tensor.offset + static_cast<uint64_t>(first) * bytes;
    return sources_[static_cast<size_t>(tensor.file)]->read(at, dst);
  }
  // As the maker likes them, so that memory does not grow with what is asked for.
  const int64_t piece =
      std::max<int64_t>(1, model_.maker()->piece_rows(static_cast<size_t>(tensor.offset)));
  for (int64_t row = 0; row < n; row += piece)
    make(tensor, first + row, std::min(piece, n - row),
         dst.data() + static_cast<size_t>(row) * bytes);
}

void RowReader::make(const RawTensor& tensor, int64_t first, int64_t n, std::byte* dst) {
  const auto number = static_cast<size_t>(tensor.offset);
  const std::vector<ByteRange> ranges = model_.maker()->ranges(number, first, n);
  size_t total = 0;
  for (const ByteRange& range : ranges) total += static_cast<size_t>(range.n_bytes);
  read_.resize(total);
  std::vector<const std::byte*> read;
  size_t at = 0;
  for (const ByteRange& range : ranges) {
    const auto part = std::span(read_).subspan(at, static_cast<size_t>(range.n_bytes));
    sources_[static_cast<size_t>(range.file)]->read(range.offset, part);
    read.push_back(part.data());
    at += part.size();
  }
  model_.maker()->make(number, first, n, read, dst);
}

}  // namespace hob
