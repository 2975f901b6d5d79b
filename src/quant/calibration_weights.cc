#include "quant/calibration_weights.h"

#include <algorithm>

#include "base/error.h"
#include "tensor/dequant.h"
#include "tensor/quantise.h"

namespace hob {
namespace {

constexpr uint64_t kPieceBytes = 4u << 20;

}  // namespace

WeightReader::WeightReader(const ModelFile& file) {
  for (const std::string& path : file.files()) files_.push_back(std::make_unique<FileSource>(path));
}

std::vector<float> WeightReader::values(const RawTensor& t, int64_t first, int64_t n) const {
  HOB_CHECK(first >= 0 && n >= 0 && first + n <= t.shape.n_elements());
  std::vector<std::byte> bytes(row_bytes(t.dtype, n));
  files_[static_cast<size_t>(t.file)]->read(t.offset + row_bytes(t.dtype, first), bytes);
  std::vector<float> out(static_cast<size_t>(n));
  dequantise_row(t.dtype, bytes.data(), n, out.data());
  return out;
}

void WeightReader::copy(const RawTensor& t,
                        const std::function<void(std::span<const std::byte>)>& sink) const {
  std::vector<std::byte> bytes;
  for (uint64_t done = 0; done < t.n_bytes; done += bytes.size()) {
    bytes.resize(static_cast<size_t>(std::min(kPieceBytes, t.n_bytes - done)));
    files_[static_cast<size_t>(t.file)]->read(t.offset + done, bytes);
    sink(bytes);
  }
}

std::vector<std::byte> to_bytes(DType type, std::span<const float> values) {
  HOB_CHECK(!dtype_info(type).quantised());
  std::vector<std::byte> bytes(row_bytes(type, static_cast<int64_t>(values.size())));
  quantise_row(type, values.data(), static_cast<int64_t>(values.size()), bytes.data());
  return bytes;
}

}  // namespace hob
