#include "quant/quantise_gguf.h"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "base/align.h"
#include "base/error.h"
#include "base/hash.h"
#include "format/fingerprint.h"
#include "format/gguf_writer.h"
#include "format/row_reader.h"
#include "quant/resumable_file.h"
#include "quant/round_row.h"
#include "tensor/dequant.h"

namespace hob {
namespace {

constexpr uint64_t kRulesVersion = 1;  // one more when the same input and options give other bytes
constexpr int64_t kPieceWeights = int64_t{4} << 20;

struct Piece {
  const QuantStep* step;
  int64_t first_row, n_rows;
  uint64_t offset;  // in the output
};

GgufWriter make_writer(const ModelFile& model, const FileType& type,
                       const std::vector<QuantStep>& steps) {
  Metadata metadata = model.metadata();
  for (const char* key : {"split.no", "split.count", "split.tensors.count"}) metadata.erase(key);
  GgufWriter writer;
  writer.set_all(metadata);
  writer.set("general.file_type", type.id);
  writer.set("general.quantization_version", uint32_t{2});
  for (const QuantStep& step : steps) writer.add(step.tensor->name, step.to, step.tensor->shape);
  return writer;
}

struct Layout {
  std::vector<Piece> pieces;
  std::vector<ResumableFile::Piece> extents;  // with the padding behind the last rows of a tensor
  uint64_t n_bytes = 0;
};

Layout lay_out(const GgufWriter& writer, const std::vector<QuantStep>& steps) {
  Layout layout;
  uint64_t offset = writer.header().size();
  for (const QuantStep& step : steps) {
    const int64_t n_rows = step.tensor->shape.rows(), n_cols = step.tensor->shape.cols();
    const int64_t per_piece = std::max<int64_t>(1, kPieceWeights / n_cols);
    for (int64_t row = 0; row < n_rows; row += per_piece) {
      const int64_t n = std::min(per_piece, n_rows - row);
      uint64_t n_bytes = static_cast<uint64_t>(n) * row_bytes(step.to, n_cols);
      layout.pieces.push_back({&step, row, n, offset});
      if (row + n == n_rows) n_bytes = round_up(offset + n_bytes, writer.alignment()) - offset;
      layout.extents.push_back({offset, n_bytes});
      offset += n_bytes;
    }
  }
  layout.n_bytes = offset;
  return layout;
}

// Of all that decides the output: the header says the types of all tensors.
uint64_t key_of(const ModelFile& model, const std::string& header,
                const ImportanceMatrix* importance) {
  Hash64 hash;
  const auto add = [&](const auto& value) { hash.add(std::as_bytes(std::span(&value, 1))); };
  add(kRulesVersion);
  for (const ModelFingerprint::File& file : fingerprint_of(model).files) {
    add(file.n_bytes);
    add(file.header_hash);
    add(file.experts_hash);
  }
  for (const std::string& path : model.files()) {
    struct stat about = {};
    if (::stat(path.c_str(), &about) != 0) continue;  // reading it will say why
    add(about.st_mtim.tv_sec);
    add(about.st_mtim.tv_nsec);
  }
  hash.add(std::as_bytes(std::span(header)));
  add(importance ? importance->hash() : uint64_t{0});
  return hash.value();
}

class PieceQuantiser {
 public:
  PieceQuantiser(const ModelFile& model, const ImportanceMatrix* importance, ThreadPool& pool)
      : importance_(importance), pool_(pool), reader_(model) {}

  // `out` has room for the rows.
  void run(const Piece& piece, std::span<std::byte> out) {
    const RawTensor& tensor = *piece.step->tensor;
    const size_t n_bytes =
        static_cast<size_t>(piece.n_rows) * row_bytes(tensor.dtype, tensor.shape.cols());
    if (piece.step->keep())
      return reader_.read(tensor, piece.first_row, piece.n_rows, out.first(n_bytes));
    raw_.resize(n_bytes);
    reader_.read(tensor, piece.first_row, piece.n_rows, raw_);
    find_importance(piece);
    equal_.assign(static_cast<size_t>(tensor.shape.cols()), 1.0f);
    first_bad_row_ = std::numeric_limits<int64_t>::max();
    const int n_tasks =
        static_cast<int>(std::min<int64_t>(piece.n_rows, int64_t{16} * pool_.n_threads()));
    pool_.run(n_tasks, [&](int task) { rows(piece, task, n_tasks, out); });
    if (first_bad_row_ != std::numeric_limits<int64_t>::max()) {
      fail(Code::kDataLoss, "[quantize] {}: expected finite weights, row {} has others",
           printable(tensor.name), first_bad_row_.load());
    }
  }

 private:
  static int64_t rows_per_expert(const RawTensor& tensor) {
    const Shape& shape = tensor.shape;
    return shape.n_dims > 2 ? shape.rows() / shape[0] : shape.rows();
  }

  // For the experts that the piece touches. Here, because tasks must not throw.
  void find_importance(const Piece& piece) {
    const int64_t per_expert = rows_per_expert(*piece.step->tensor);
    first_expert_ = piece.first_row / per_expert;
    const int64_t last = (piece.first_row + piece.n_rows - 1) / per_expert;
    of_experts_.clear();
    for (int64_t e = first_expert_; e <= last; e++)
      of_experts_.push_back(importance_ ? importance_->find(*piece.step->tensor, e) : nullptr);
  }

  void rows(const Piece& piece, int task, int n_tasks, std::span<std::byte> out) {
    const RawTensor& tensor = *piece.step->tensor;
    const DType to = piece.step->to;
    const int64_t n_cols = tensor.shape.cols(), per_expert = rows_per_expert(tensor);
    const size_t from_bytes = row_bytes(tensor.dtype, n_cols), to_bytes = row_bytes(to, n_cols);
    std::vector<float> values(static_cast<size_t>(n_cols));
    for (int64_t row = piece.n_rows * task / n_tasks; row < piece.n_rows * (task + 1) / n_tasks;
         row++) {
      const auto index = static_cast<size_t>(row);
      dequantise_row(tensor.dtype, raw_.data() + index * from_bytes, n_cols, values.data());
      if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); }))
        note_bad_row(piece.first_row + row);
      const int64_t expert = (piece.first_row + row) / per_expert - first_expert_;
      round_row(to, values, of_experts_[static_cast<size_t>(expert)], equal_.data(),
                out.data() + index * to_bytes);
    }
  }

  void note_bad_row(int64_t row) {
    int64_t seen = first_bad_row_;
    while (row < seen && !first_bad_row_.compare_exchange_weak(seen, row)) {
    }
  }

  const ImportanceMatrix* importance_;
  ThreadPool& pool_;
  RowReader reader_;
  std::vector<std::byte> raw_;
  std::vector<float> equal_;
  int64_t first_expert_ = 0;
  std::vector<const float*> of_experts_;  // from first_expert_ on
  std::atomic<int64_t> first_bad_row_{0};
};

}  // namespace

uint64_t quantised_bytes(const ModelFile& model, const FileType& type,
                         const std::vector<QuantStep>& steps) {
  return lay_out(make_writer(model, type, steps), steps).n_bytes;
}

QuantiseResult quantise_gguf(const ModelFile& model, const FileType& type,
                             const std::vector<QuantStep>& steps,
                             const ImportanceMatrix* importance, const std::string& out,
                             ThreadPool& pool, const QuantiseProgress& progress) {
  const GgufWriter writer = make_writer(model, type, steps);
  const std::string header = writer.header();
  const Layout layout = lay_out(writer, steps);
  PieceQuantiser quantiser(model, importance, pool);
  ResumableFile file(out, key_of(model, header, importance), layout.n_bytes, layout.extents);
  const uint64_t total = layout.n_bytes - header.size();
  uint64_t done = file.bytes_found();
  std::vector<std::byte> buffer;
  while (file.n_done() < layout.pieces.size()) {
    progress(done, total, file.bytes_found());
    const size_t next = file.n_done();
    buffer.assign(layout.extents[next].n_bytes, std::byte{0});
    quantiser.run(layout.pieces[next], buffer);
    file.write_next(buffer);
    done += buffer.size();
  }
  progress(done, total, file.bytes_found());
  file.finish(std::as_bytes(std::span(header)));
  return {layout.n_bytes, file.bytes_found(), file.discarded()};
}

}  // namespace hob
