#include "quant/gptq_model.h"

#include "base/error.h"
#include "format/gguf_writer.h"
#include "quant/gptq_blocks.h"
#include "quant/layer_quantiser.h"
#include "quant/round_row.h"

namespace hob {
namespace {

class GgufQuantiser {
 public:
  GgufQuantiser(LayerQuantiser& layers, const ModelFile& file, const QuantiseOptions& options,
                ThreadPool& pool)
      : layers_(layers),
        file_(file),
        options_(options),
        pool_(pool),
        out_type_(options.as_f32 ? DType::kF32 : type_of_grid(options.gptq.grid)) {}

  void run() {
    GgufWriter writer;
    writer.set_all(file_.metadata());
    writer.set("general.file_type", file_type());
    for (const RawTensor* t : layers_.order()) {
      check(*t);
      writer.add(t->name, type_of(*t), t->shape);
    }
    size_t next = 0;  // the writer asks in the order of add()
    writer.write(options_.out, [&](const GgufWriter::Tensor&, const GgufWriter::Sink& sink) {
      const RawTensor& t = *layers_.order()[next++];
      layers_.begin(t);
      write(t, sink);
      layers_.end(t);
    });
  }

 private:
  static DType type_of_grid(const GridParams& grid) {
    if (const std::optional<DType> type = block_type(grid)) return *type;
    fail(Code::kUnimplemented,
         "[quant] expected a grid that GGUF has a type for (group 32 with 4 bits, or 8 symmetric), "
         "got {} bits in groups of {}",
         grid.bits, grid.group);
  }

  std::optional<DType> named_type(const RawTensor& t) const {
    const auto named = options_.types.find(t.name);
    return named == options_.types.end() ? std::nullopt : std::optional(named->second);
  }
  DType type_of(const RawTensor& t) const {
    if (const std::optional<DType> named = named_type(t)) return *named;
    return quantisable(t) ? out_type_ : t.dtype;
  }
  // What the method works on; nothing: it has no such values.
  std::optional<GridParams> grid_for(const RawTensor& t) const {
    const std::optional<DType> named = named_type(t);
    if (!quantisable(t)) return std::nullopt;
    return named ? grid_of(*named, options_.gptq.grid) : std::optional(options_.gptq.grid);
  }

  // As in llama.cpp's list of file types.
  uint32_t file_type() const {
    switch (out_type_) {
      case DType::kQ4_0:
        return 2;
      case DType::kQ4_1:
        return 3;
      case DType::kQ8_0:
        return 7;
      default:
        return 0;
    }
  }

  void check(const RawTensor& t) const {
    if (!layer_matrix(t.name)) return;
    const std::optional<GridParams> grid = grid_for(t);
    if (!grid && !named_type(t))
      fail(Code::kInvalidArgument, "[quant] {}: expected F32, F16 or BF16, file has {}", t.name,
           dtype_info(t.dtype).name);
    if (grid) check_grid(*grid, static_cast<int>(t.shape.cols()));
  }

  void write(const RawTensor& t, const GgufWriter::Sink& sink) {
    if (const std::optional<GridParams> grid = grid_for(t))
      write_quantised(t, *grid, sink);
    else if (const std::optional<DType> named = named_type(t))
      write_rounded(t, *named, sink);
    else if (layers_.folds(t))
      sink(to_bytes(t.dtype, layers_.values(t, 0)));
    else
      layers_.reader().copy(t, sink);
  }

  // Folds of the layer are in what the other matrices get, so they must be in here too.
  void write_rounded(const RawTensor& t, DType type, const GgufWriter::Sink& sink) {
    for (int64_t e = 0; e < n_experts_in(t); e++)
      sink(round_rows(type, layers_.values(t, e), t.shape.cols(), pool_));
    layers_.report().n_rounded++;
  }

  void write_quantised(const RawTensor& t, const GridParams& grid, const GgufWriter::Sink& sink) {
    for (int64_t e = 0; e < n_experts_in(t); e++) {
      const QuantisedMatrix q = layers_.quantise(t, e, grid);
      if (options_.as_f32) {
        const std::vector<float> values = q.dequantise();
        sink(std::as_bytes(std::span(values)));
      } else {
        std::vector<std::byte> blocks;
        append_blocks(q, type_of(t), blocks);
        sink(blocks);
      }
    }
  }

  LayerQuantiser& layers_;
  const ModelFile& file_;
  const QuantiseOptions& options_;
  ThreadPool& pool_;
  DType out_type_;
};

}  // namespace

void check_calibration(const QuantiseOptions& options, std::span<const int32_t> tokens) {
  if (options.method != QuantMethod::kRtn && tokens.empty())
    fail(Code::kInvalidArgument, "[quant] calibration: expected some text, it has none");
}

QuantiseReport quantise_model(ModelSession& session, std::span<const int32_t> tokens,
                              const QuantiseOptions& options, ThreadPool& pool,
                              const CalibratedProgress& progress) {
  check_calibration(options, tokens);
  LayerQuantiser layers(session, tokens, options, pool, progress);
  GgufQuantiser(layers, session.file(), options, pool).run();
  return std::move(layers.report());
}

}  // namespace hob
