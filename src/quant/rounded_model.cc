#include "quant/rounded_model.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "quant/rounding_error.h"
#include "tensor/dequant.h"
#include "tensor/quantise.h"

namespace hob {
namespace {

// Numbers of our tensors; smaller ones belong to the model's own maker.
constexpr size_t kFirst = size_t{1} << 40;
constexpr int64_t kPieceWeights = int64_t{1} << 20;

class RoundedRows : public RowMaker {
 public:
  RoundedRows(std::shared_ptr<const RowMaker> inner) : inner_(std::move(inner)) {}

  // Its number.
  size_t add(const RawTensor& from, DType to) {
    tensors_.push_back({from, to});
    return kFirst + tensors_.size() - 1;
  }

  std::optional<ByteRange> place(size_t tensor, int64_t first, int64_t n) const override {
    if (tensor >= kFirst) return std::nullopt;
    return inner_->place(tensor, first, n);
  }

  std::vector<ByteRange> ranges(size_t tensor, int64_t first, int64_t n) const override {
    if (tensor < kFirst) return inner_->ranges(tensor, first, n);
    const RawTensor& from = at(tensor).from;
    if (from.file == kMadeTensor) return inner_->ranges(number(from), first, n);
    const uint64_t bytes = row_bytes(from.dtype, from.shape.cols());
    return {{from.file, from.offset + static_cast<uint64_t>(first) * bytes,
             static_cast<uint64_t>(n) * bytes}};
  }

  void make(size_t tensor, int64_t first, int64_t n, std::span<const std::byte* const> read,
            std::byte* dst) const override {
    if (tensor < kFirst) return inner_->make(tensor, first, n, read, dst);
    const auto& [from, to] = at(tensor);
    const int64_t n_cols = from.shape.cols();
    const size_t from_bytes = row_bytes(from.dtype, n_cols), to_bytes = row_bytes(to, n_cols);
    std::vector<std::byte> made;
    const std::byte* rows = nullptr;
    if (from.file == kMadeTensor) {
      made.resize(static_cast<size_t>(n) * from_bytes);
      inner_->make(number(from), first, n, read, made.data());
      rows = made.data();
    } else {
      rows = read[0];
    }
    std::vector<float> values(static_cast<size_t>(n_cols));
    for (size_t i = 0; i < static_cast<size_t>(n); i++) {
      dequantise_row(from.dtype, rows + i * from_bytes, n_cols, values.data());
      round_plain(values);
      quantise_row(to, values.data(), n_cols, dst + i * to_bytes);
    }
  }

  int64_t piece_rows(size_t tensor) const override {
    if (tensor < kFirst) return inner_->piece_rows(tensor);
    const RawTensor& from = at(tensor).from;
    return from.file == kMadeTensor ? inner_->piece_rows(number(from))
                                    : std::max<int64_t>(1, kPieceWeights / from.shape.cols());
  }

 private:
  struct Rounded {
    RawTensor from;
    DType to;
  };
  const Rounded& at(size_t tensor) const { return tensors_[tensor - kFirst]; }
  static size_t number(const RawTensor& made) { return static_cast<size_t>(made.offset); }

  std::shared_ptr<const RowMaker> inner_;  // null: the model has no made tensors
  std::vector<Rounded> tensors_;
};

}  // namespace

ModelFile with_rounded(const ModelFile& model, std::span<const RawTensor* const> rounded) {
  auto rows = std::make_shared<RoundedRows>(model.maker());
  std::vector<RawTensor> tensors = model.tensors();
  for (const RawTensor* chosen : rounded) {
    RawTensor& t = tensors[static_cast<size_t>(chosen - model.tensors().data())];
    HOB_CHECK(t.name == chosen->name);
    const DType to = dtype_info(t.dtype).quantised() ? DType::kF32 : t.dtype;
    t.offset = rows->add(*chosen, to);
    t.file = kMadeTensor;
    t.dtype = to;
    t.n_bytes = static_cast<uint64_t>(t.shape.rows()) * row_bytes(to, t.shape.cols());
  }
  return {model.metadata(), std::move(tensors), model.files(), model.total_bytes(),
          std::move(rows)};
}

}  // namespace hob
