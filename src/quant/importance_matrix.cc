#include "quant/importance_matrix.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <string_view>

#include "base/error.h"
#include "base/hash.h"
#include "format/byte_source.h"
#include "format/gguf.h"

namespace hob {
namespace {

constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts";

std::vector<float> read_floats(const ModelFile& file, const RawTensor& tensor) {
  if (tensor.dtype != DType::kF32) {
    fail(Code::kDataLoss, "[imatrix] {}: expected F32, file has {}", printable(tensor.name),
         dtype_info(tensor.dtype).name);
  }
  std::vector<float> values(static_cast<size_t>(tensor.shape.n_elements()));
  const FileSource source(file.files()[static_cast<size_t>(tensor.file)]);
  source.read(tensor.offset, std::as_writable_bytes(std::span(values)));
  const auto bad = [](float v) { return !std::isfinite(v) || v < 0; };
  if (std::any_of(values.begin(), values.end(), bad)) {
    fail(Code::kDataLoss, "[imatrix] {}: expected finite numbers >= 0, file has others",
         printable(tensor.name));
  }
  return values;
}

}  // namespace

ImportanceMatrix::Entry ImportanceMatrix::read_entry(const ModelFile& file, const RawTensor& sums,
                                                     const RawTensor& counts) {
  Entry entry;
  entry.n_experts = sums.shape.rows();
  entry.n_cols = sums.shape.cols();
  if (counts.shape.n_elements() != entry.n_experts) {
    fail(Code::kDataLoss, "[imatrix] {}: expected {} counts, file has {}", printable(counts.name),
         entry.n_experts, counts.shape.n_elements());
  }
  entry.mean_squares = read_floats(file, sums);
  const std::vector<float> n = read_floats(file, counts);
  for (size_t e = 0; e < n.size(); e++) {
    entry.used.push_back(n[e] > 0);
    const auto n_cols = static_cast<size_t>(entry.n_cols);
    for (float& v : std::span(entry.mean_squares).subspan(e * n_cols, n_cols))
      v = n[e] > 0 ? v / n[e] : 0;
  }
  return entry;
}

ImportanceMatrix ImportanceMatrix::open(const std::string& path) {
  const ModelFile file = open_gguf(path);
  ImportanceMatrix out;
  out.path_ = path;
  Hash64 hash;
  for (const RawTensor& sums : file.tensors()) {
    if (!sums.name.ends_with(kSums)) continue;
    const std::string name = sums.name.substr(0, sums.name.size() - kSums.size());
    const RawTensor* counts = file.find(name + std::string(kCounts));
    if (counts == nullptr) {
      fail(Code::kDataLoss, "[imatrix] {}: expected {}{} beside it, file has none",
           printable(sums.name), printable(name), kCounts);
    }
    Entry entry = read_entry(file, sums, *counts);
    hash.add(std::as_bytes(std::span(name)));
    hash.add(std::as_bytes(std::span(entry.mean_squares)));
    out.entries_.emplace(name, std::move(entry));
  }
  if (out.entries_.empty()) {
    fail(Code::kDataLoss, "[imatrix] {}: expected tensors *{}, file has none", path, kSums);
  }
  out.hash_ = hash.value();
  return out;
}

const float* ImportanceMatrix::find(const RawTensor& tensor, int64_t expert) const {
  const auto it = entries_.find(tensor.name);
  if (it == entries_.end()) return nullptr;
  const Entry& entry = it->second;
  const int64_t n_experts = tensor.shape.n_dims > 2 ? tensor.shape[0] : 1;
  const bool fits = entry.n_experts == n_experts || entry.n_experts == 1;
  if (entry.n_cols != tensor.shape.cols() || !fits) {
    fail(Code::kInvalidArgument,
         "[imatrix] {}: expected {} numbers for each of {} experts, {} has {} for each of {}",
         printable(tensor.name), tensor.shape.cols(), n_experts, path_, entry.n_cols,
         entry.n_experts);
  }
  const int64_t row = entry.n_experts == 1 ? 0 : expert;
  if (!entry.used[static_cast<size_t>(row)]) return nullptr;
  return entry.mean_squares.data() + row * entry.n_cols;
}

}  // namespace hob
