#include "experts/slab_maker.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "tensor/dequant.h"
#include "tensor/quantise_search.h"

namespace hob {
namespace {

constexpr int kPieceRows = 64;  // Backend::prepare takes whole multiples of it

}  // namespace

SlabMaker::SlabMaker(const ExpertGeometry& high, const ExpertGeometry* low, const Backend& backend,
                     ThreadPool& pool)
    : high_(high),
      low_(low),
      backend_(backend),
      pool_(pool),
      high_layouts_(make_layouts(high, backend)) {
  if (low) low_layouts_ = make_layouts(*low, backend);
}

uint64_t SlabMaker::high_bytes(int layer) const {
  return high_layouts_[static_cast<size_t>(layer)].n_bytes;
}
uint64_t SlabMaker::low_bytes(int layer) const {
  return low_layouts_[static_cast<size_t>(layer)].n_bytes;
}

void SlabMaker::cut(const ExpertLayer& layer) {
  pieces_.clear();
  for (size_t part = 0; part < 3; part++)
    for (int row = 0; row < layer.parts[part].rows; row += kPieceRows)
      pieces_.push_back({part, row, std::min(kPieceRows, layer.parts[part].rows - row)});
}

void SlabMaker::make_high(int layer_index, const StockExpert& stock, std::byte* image) {
  const ExpertLayer& layer = high_.layers[static_cast<size_t>(layer_index)];
  const ExpertLayout& layout = high_layouts_[static_cast<size_t>(layer_index)];
  std::memset(image, 0, layout.n_bytes);
  cut(layer);
  pool_.run(static_cast<int>(pieces_.size()), [&](int task) {
    const Piece& p = pieces_[static_cast<size_t>(task)];
    const ExpertMatrix& m = layer.parts[p.part];
    backend_.prepare(
        m.dtype, p.n_rows, m.cols,
        stock[p.part] + row_bytes(m.dtype, m.cols) * static_cast<size_t>(p.row),
        image + layout.offset[p.part] + backend_.prepared_bytes(m.dtype, p.row, m.cols));
  });
}

void SlabMaker::make_low(int layer_index, const StockExpert& stock,
                         const ExpertImportance& importance, std::byte* image) {
  HOB_CHECK(low_);
  const ExpertLayer& layer = low_->layers[static_cast<size_t>(layer_index)];
  std::memset(image, 0, low_bytes(layer_index));
  cut(layer);
  row_.resize(std::max(row_.size(), pieces_.size()));
  quantised_.resize(row_.size());
  for (size_t i = 0; i < pieces_.size(); i++) {
    const ExpertMatrix& m = layer.parts[pieces_[i].part];
    row_[i].resize(std::max(row_[i].size(), static_cast<size_t>(m.cols)));
    quantised_[i].resize(std::max(quantised_[i].size(),
                                  row_bytes(m.dtype, m.cols) * static_cast<size_t>(kPieceRows)));
  }
  pool_.run(static_cast<int>(pieces_.size()), [&](int task) {
    const auto i = static_cast<size_t>(task);
    const Piece& p = pieces_[i];
    const ExpertMatrix& from = high_.layers[static_cast<size_t>(layer_index)].parts[p.part];
    const ExpertMatrix& to = layer.parts[p.part];
    const size_t from_stride = row_bytes(from.dtype, from.cols);
    const size_t to_stride = row_bytes(to.dtype, to.cols);
    const float* weights = importance[p.part].empty() ? nullptr : importance[p.part].data();
    for (int r = 0; r < p.n_rows; r++) {
      dequantise_row(from.dtype, stock[p.part] + from_stride * static_cast<size_t>(p.row + r),
                     from.cols, row_[i].data());
      quantise_row_search(to.dtype, row_[i].data(), to.cols, weights,
                          quantised_[i].data() + to_stride * static_cast<size_t>(r));
    }
    backend_.prepare(to.dtype, p.n_rows, to.cols, quantised_[i].data(),
                     image + low_layouts_[static_cast<size_t>(layer_index)].offset[p.part] +
                         backend_.prepared_bytes(to.dtype, p.row, to.cols));
  });
}

}  // namespace hob
