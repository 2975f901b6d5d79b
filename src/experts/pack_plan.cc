#include "experts/pack_plan.h"

#include "base/error.h"
#include "base/size_parse.h"
#include "format/pack_writer.h"
#include "tensor/quantise_search.h"

namespace hob {
namespace {

PackPart part_of(const ExpertMatrix& m) { return {m.dtype, m.rows, m.cols}; }

std::string describe(const PackPart& p) {
  return fmt::format("{} [{},{}]", dtype_info(p.dtype).name, p.rows, p.cols);
}

void plan_copy(const ExpertGeometry& geometry, const Backend& backend, PackPrecision precision,
               PackIndex& index) {
  const std::vector<ExpertLayout> layouts = make_layouts(geometry, backend);
  for (size_t i = 0; i < layouts.size(); i++) {
    const ExpertLayer& layer = geometry.layers[i];
    if (layer.n_experts == 0) continue;
    PackCopy& copy = index.layers[i].copies[precision];
    for (size_t part = 0; part < 3; part++) copy.parts[part] = part_of(layer.parts[part]);
    copy.slabs.assign(static_cast<size_t>(layer.n_experts), {.n_bytes = layouts[i].n_bytes});
  }
}

void refuse_useless_low(const PackIndex& index, const ExpertGeometry& geometry,
                        const Backend& backend, int bits) {
  const uint64_t high = measure(geometry.layers, make_layouts(geometry, backend)).total;
  const uint64_t low = index.slab_bytes(kPackLow);
  if (low < high) return;
  fail(
      Code::kInvalidArgument,
      "[pack] --low q{}: expected a low copy smaller than the model's experts ({}, {:.1f} bits per "
      "weight), it would have {}: fewer bits or --no-low",
      bits, format_size(high), expert_bits(geometry), format_size(low));
}

class PackApplier {
 public:
  PackApplier(const PackFile& pack, const Backend& backend, ExpertGeometry& geometry)
      : pack_(pack), backend_(backend), geometry_(geometry) {}

  void run() {
    const PackIndex& index = pack_.index();
    expect(index.layers.size() == geometry_.layers.size(), "{} layers, the pack has {}",
           geometry_.layers.size(), index.layers.size());
    for (size_t i = 0; i < index.layers.size(); i++)
      expect(index.layers[i].n_experts == geometry_.layers[i].n_experts,
             "{} experts in blk.{}, the pack has {}", geometry_.layers[i].n_experts, i,
             index.layers[i].n_experts);
    ExpertGeometry result = geometry_;
    result.files.push_back(pack_.path());
    file_ = static_cast<int>(result.files.size()) - 1;
    result.low.clear();
    if (index.has(kPackHigh)) take(kPackHigh, result.layers);
    if (index.has(kPackLow)) {
      std::vector<ExpertLayer> low = geometry_.layers;
      take(kPackLow, low);
      result.low = std::move(low);
    }
    geometry_ = std::move(result);
  }

 private:
  template <class... Args>
  void expect(bool condition, fmt::format_string<Args...> format, Args&&... args) const {
    if (condition) return;
    fail(Code::kDataLoss, "[pack] {}: expected {}", printable(pack_.path()),
         fmt::format(format, std::forward<Args>(args)...));
  }

  // Turns `layers`, the model's own, into those of the pack's copy.
  void take(PackPrecision precision, std::vector<ExpertLayer>& layers) const {
    for (size_t i = 0; i < layers.size(); i++) {
      ExpertLayer& layer = layers[i];
      if (layer.n_experts == 0) continue;
      const PackCopy& copy = pack_.index().layers[i].copies[precision];
      expect(copy.slabs.size() == static_cast<size_t>(layer.n_experts),
             "{} experts in blk.{}, this copy of the pack has {}", layer.n_experts, i,
             copy.slabs.size());
      for (size_t part = 0; part < 3; part++)
        take_part(precision, copy.parts[part], layer.parts[part]);
      layer.slab_file = file_;
      for (const PackSlab& s : copy.slabs) layer.slabs.push_back({s.offset, s.n_bytes, s.hash});
    }
    check_sizes(layers);
  }

  void take_part(PackPrecision precision, const PackPart& part, ExpertMatrix& m) const {
    PackPart own = part_of(m);
    if (precision == kPackLow) own.dtype = part.dtype;
    expect(part == own, "{}, the pack has {}", describe(own), describe(part));
    if (precision == kPackHigh) return;  // the place in the GGUF stays true
    m = {.dtype = part.dtype,
         .rows = part.rows,
         .cols = part.cols,
         .file = file_,
         .offset = 0,
         .bytes_per_expert = row_bytes(part.dtype, part.cols) * static_cast<uint64_t>(part.rows),
         .reads = {}};
  }

  // A slab is read straight into its slot: a byte more would be another slot's.
  void check_sizes(const std::vector<ExpertLayer>& layers) const {
    ExpertGeometry copy;
    copy.files = geometry_.files;
    copy.files.push_back(pack_.path());
    copy.layers = layers;
    const std::vector<ExpertLayout> layouts = make_layouts(copy, backend_);
    for (size_t i = 0; i < layers.size(); i++)
      for (size_t e = 0; e < layers[i].slabs.size(); e++)
        expect(layers[i].slabs[e].n_bytes == layouts[i].n_bytes,
               "slabs of {} bytes in blk.{}, the pack has {}", layouts[i].n_bytes, i,
               layers[i].slabs[e].n_bytes);
  }

  const PackFile& pack_;
  const Backend& backend_;
  ExpertGeometry& geometry_;
  int file_ = -1;
};

}  // namespace

double expert_bits(const ExpertGeometry& geometry) {
  double bytes = 0, weights = 0;
  for (const ExpertLayer& layer : geometry.layers) {
    if (layer.n_experts == 0) continue;
    for (const ExpertMatrix& m : layer.parts) {
      bytes += static_cast<double>(m.bytes_per_expert) * layer.n_experts;
      weights += static_cast<double>(m.rows) * m.cols * layer.n_experts;
    }
  }
  return weights > 0 ? 8 * bytes / weights : 0;
}

// Ref: [HOBBIT] §5: FP16 with Int4, Int8 with Int2.
int default_low_bits(double bits) {
  if (bits > 12) return 4;
  return bits > 3.5 ? 2 : 0;
}

ExpertGeometry low_geometry(const ExpertGeometry& geometry, int bits) {
  ExpertGeometry low = geometry;
  low.low.clear();
  low.maker = nullptr;
  for (ExpertLayer& layer : low.layers) {
    layer.slab_file = -1;
    layer.slabs.clear();
    if (layer.n_experts == 0) continue;
    for (ExpertMatrix& m : layer.parts) {
      m.dtype = low_type(bits, m.cols);
      m.bytes_per_expert = row_bytes(m.dtype, m.cols) * static_cast<uint64_t>(m.rows);
      m.file = 0;  // nowhere yet
      m.offset = 0;
      m.reads.clear();
      m.made_tensor = ExpertMatrix::kNotMade;
    }
  }
  return low;
}

PackIndex plan_pack(const ExpertGeometry& geometry, const Backend& backend,
                    const PackChoice& choice, ModelFingerprint model) {
  if (expert_bits(geometry) == 0)
    fail(Code::kInvalidArgument, "[pack] {}: expected a model with experts, it has none",
         printable(geometry.files.empty() ? model.name : geometry.files.front()));
  if (!choice.high && choice.low_bits == 0)
    fail(Code::kInvalidArgument, "[pack] expected a high or a low copy to write, got neither");
  PackIndex index;
  index.model = std::move(model);
  for (const ExpertLayer& layer : geometry.layers)
    index.layers.push_back({.n_experts = layer.n_experts, .copies = {}});
  if (choice.high) plan_copy(geometry, backend, kPackHigh, index);
  if (choice.low_bits > 0) {
    plan_copy(low_geometry(geometry, choice.low_bits), backend, kPackLow, index);
    refuse_useless_low(index, geometry, backend, choice.low_bits);
  }
  place_slabs(index);
  return index;
}

void apply_pack(const PackFile& pack, const ModelFile& model, const Backend& backend,
                ExpertGeometry& geometry) {
  const ModelFingerprint own = fingerprint_of(model);
  const ModelFingerprint& packed = pack.index().model;
  if (const std::string_view other = difference(own, packed); !other.empty())
    fail(Code::kInvalidArgument,
         "[pack] {}: expected a pack of this model ({}, {} bytes), it was made of a file with {} "
         "({}, {} bytes)",
         printable(pack.path()), printable(own.name), own.total_bytes(), other,
         printable(packed.name), packed.total_bytes());
  PackApplier(pack, backend, geometry).run();
}

}  // namespace hob
