#include "quant/gptq_folder.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/error.h"
#include "format/atomic_file.h"
#include "format/byte_source.h"
#include "format/strict_json.h"
#include "hf/file_text.h"
#include "hf/hf_checkpoint.h"
#include "hf/safetensors_writer.h"
#include "quant/layer_quantiser.h"

namespace hob {
namespace {

namespace fs = std::filesystem;
constexpr uint64_t kPieceBytes = 4u << 20;
constexpr std::string_view kWeight = ".weight";

template <class T>
std::vector<std::byte> bytes_of(const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

class FolderQuantiser {
 public:
  FolderQuantiser(LayerQuantiser& layers, const std::string& in, HfPackMethod format,
                  const QuantiseOptions& options)
      : layers_(layers),
        options_(options),
        packing_(folder_packing(format, options.gptq.grid)),
        checkpoint_(HfCheckpoint::open(in)),
        set_(SafetensorsSet::open(in)) {
    if (checkpoint_.unpacked())
      fail(Code::kUnimplemented,
           "[quant] {}: expected layers that are not quantised yet, as they go to a folder again",
           printable(in));
    for (const HfTensor& t : checkpoint_.tensors()) by_name_.emplace(t.name, &t);
  }

  void run() {
    for (const RawTensor* t : layers_.order()) plan(*t);
    for (const SafeTensor& t : set_.tensors())  // vision towers, buffers
      if (!planned_.contains(t.name)) add_copy(t);
    const fs::path out(options_.out);
    fs::create_directories(out);
    writer_.write((out / "model.safetensors").string(),
                  [&](size_t i, const SafetensorsWriter::Sink& sink) { jobs_[i](sink); });
  }

  const HfPacking& packing() const { return packing_; }

 private:
  using Job = std::function<void(const SafetensorsWriter::Sink&)>;

  void add(const std::string& name, SafeType type, std::vector<int64_t> shape, Job job) {
    writer_.add(name, type, std::move(shape));
    jobs_.push_back(std::move(job));
  }

  // In the order of the layers: what a tensor becomes.
  void plan(const RawTensor& t) {
    const HfTensor& hf = *by_name_.at(t.name);
    const std::string first = hf.sources.empty() ? "" : hf.sources[0].data->name;
    const size_t n_before = jobs_.size();
    if (quantisable(t))
      plan_matrix(t, hf);
    else if (is_folded(t))
      plan_folded(t, hf);
    else
      for (const HfSource& s : hf.sources)
        for (const SafeTensor* part : {s.data, s.scales})
          if (part && !planned_.contains(part->name)) add_copy(*set_.find(part->name));
    if (n_before == jobs_.size()) return;
    // The first of its jobs begins the tensor, the last one ends it.
    jobs_[n_before] = [this, &t, job = std::move(jobs_[n_before])](const auto& sink) {
      layers_.begin(t);
      job(sink);
    };
    jobs_.back() = [this, &t, job = std::move(jobs_.back())](const auto& sink) {
      job(sink);
      layers_.end(t);
    };
  }

  bool is_folded(const RawTensor& t) const {
    const bool scaled =
        options_.method == QuantMethod::kAwq || options_.method == QuantMethod::kAwqGptq;
    return scaled && layers_.may_fold(t);
  }

  void add_copy(const SafeTensor& t) {
    planned_.insert(t.name);
    add(t.name, t.dtype, t.shape, [this, &t](const SafetensorsWriter::Sink& sink) {
      std::vector<std::byte> piece;
      for (uint64_t at = 0; at < t.n_bytes; at += piece.size()) {
        piece.resize(static_cast<size_t>(std::min(kPieceBytes, t.n_bytes - at)));
        set_.read(t, at, piece);
        sink(piece);
      }
    });
  }

  // The way back from GGUF's layout: norms of some families are shifted there.
  void plan_folded(const RawTensor& t, const HfTensor& hf) {
    const SafeTensor& source = *hf.sources.at(0).data;
    if (hf.sources.size() != 1 || !in_order(hf)) refuse_layout(source.name);
    planned_.insert(source.name);
    add(source.name, SafeType::kF32, source.shape, [&](const SafetensorsWriter::Sink& sink) {
      std::vector<float> values = layers_.values(t, 0);
      for (float& x : values) x -= hf.shift;
      sink(std::as_bytes(std::span(values)));
    });
  }

  static bool in_order(const HfTensor& t) {
    return t.map.stride == 1 && !t.map.rotary && t.map.column_items == 0 &&
           t.map.taken == t.map.pitch;
  }
  [[noreturn]] static void refuse_layout(const std::string& name) {
    fail(Code::kUnimplemented,
         "[quant] {}: expected one tensor per matrix, as GPTQ's and AWQ's files have them: a GGUF "
         "file can be made of it",
         printable(name));
  }

  void plan_matrix(const RawTensor& t, const HfTensor& hf) {
    const HfItemMap& m = hf.map;
    const bool whole = m.column_items == 0 && m.taken == m.pitch && (m.rotary || in_order(hf));
    const auto n_experts = static_cast<size_t>(n_experts_in(t));
    const auto width = static_cast<int>(t.shape.cols());
    const int64_t n_in = width, n_out = t.shape.rows() / n_experts_in(t);
    for (size_t e = 0; e < hf.sources.size(); e++) {
      const std::string& name = hf.sources[e].data->name;
      if (!whole || hf.sources.size() != n_experts || !name.ends_with(kWeight) ||
          planned_.contains(name) || hf.shift != 0)
        refuse_layout(name);
      check_grid(options_.gptq.grid, width);
      if (n_in % 32 != 0 || n_out * packing_.bits % 32 != 0)
        fail(Code::kUnimplemented,
             "[quant] {}: expected inputs and outputs that fill words of 32 bits, it has {} and {}",
             printable(name), n_in, n_out);
      planned_.insert(name);
      add_packed(t, hf, static_cast<int64_t>(e), name.substr(0, name.size() - kWeight.size()));
    }
  }

  void add_packed(const RawTensor& t, const HfTensor& hf, int64_t expert, const std::string& base) {
    const int64_t n_in = t.shape.cols(), n_out = t.shape.rows() / n_experts_in(t);
    const PackedShapes shapes = packed_shapes(packing_, n_out, n_in);
    add(base + ".qweight", SafeType::kI32, shapes.codes,
        [this, &t, &hf, expert](const SafetensorsWriter::Sink& sink) {
          packed_ = pack(hf, layers_.quantise(t, expert, options_.gptq.grid));
          sink(bytes_of(packed_.codes));
        });
    add(base + ".qzeros", SafeType::kI32, shapes.zeros,
        [this](const SafetensorsWriter::Sink& sink) { sink(bytes_of(packed_.zeros)); });
    add(base + ".scales", SafeType::kF16, shapes.scales,
        [this](const SafetensorsWriter::Sink& sink) { sink(bytes_of(packed_.scales)); });
    if (packing_.method == HfPackMethod::kAwq) return;
    add(base + ".g_idx", SafeType::kI32, {n_in}, [this, n_in](const SafetensorsWriter::Sink& sink) {
      std::vector<int32_t> groups;
      for (int64_t k = 0; k < n_in; k++)
        groups.push_back(static_cast<int32_t>(k / packing_.group_of(n_in)));
      sink(bytes_of(groups));
    });
  }

  // Rows as transformers has them.
  PackedArrays pack(const HfTensor& hf, const QuantisedMatrix& q) const {
    const auto cols = static_cast<size_t>(q.cols), n_groups = static_cast<size_t>(q.n_groups());
    const auto rows = static_cast<size_t>(q.rows);
    std::vector<uint8_t> codes(q.codes.size()), zeros(rows * n_groups);
    std::vector<float> scales(rows * n_groups);
    for (size_t r = 0; r < rows; r++) {
      const auto row = static_cast<int64_t>(r);
      const int64_t slab = row / hf.map.taken * hf.map.pitch;
      const auto to = static_cast<size_t>(slab + hf.map.source_of(row % hf.map.taken));
      std::copy_n(q.codes.begin() + static_cast<ptrdiff_t>(r * cols), cols,
                  codes.begin() + static_cast<ptrdiff_t>(to * cols));
      for (size_t g = 0; g < n_groups; g++) {
        const GroupGrid& grid = q.grids[r * n_groups + g];
        HOB_CHECK(grid.offset == 0);
        zeros[to * n_groups + g] = static_cast<uint8_t>(grid.zero);
        scales[to * n_groups + g] = grid.scale;
      }
    }
    return pack_rows(
        packing_,
        {.n_out = q.rows, .n_in = q.cols, .codes = codes, .zeros = zeros, .scales = scales});
  }

  LayerQuantiser& layers_;
  const QuantiseOptions& options_;
  const HfPacking packing_;
  const HfCheckpoint checkpoint_;
  const SafetensorsSet set_;
  std::map<std::string, const HfTensor*, std::less<>> by_name_;
  std::set<std::string> planned_;  // source tensors
  SafetensorsWriter writer_;
  std::vector<Job> jobs_;  // parallel to the writer's tensors
  PackedArrays packed_;    // of the last matrix
};

Json packing_json(const HfPacking& p, const QuantiseOptions& options) {
  if (p.method == HfPackMethod::kAwq)
    return {{"quant_method", "awq"}, {"version", "gemm"},  {"bits", p.bits},
            {"group_size", p.group}, {"zero_point", true}, {"modules_to_not_convert", nullptr}};
  return {{"quant_method", "gptq"},
          {"checkpoint_format", "gptq"},
          {"bits", p.bits},
          {"group_size", p.group},
          {"sym", options.gptq.grid.kind == GridKind::kSymmetric},
          {"desc_act", false},
          {"damp_percent", options.gptq.damp},
          {"lm_head", false},
          {"true_sequential", false}};
}

bool holds_weights(const fs::path& file) {
  constexpr std::string_view kEnds[] = {".safetensors", ".bin",  ".pt",      ".pth", ".gguf",
                                        ".h5",          ".onnx", ".msgpack", ".ot"};
  const std::string name = file.filename().string();
  return std::ranges::any_of(kEnds, [&](std::string_view end) { return name.ends_with(end); }) ||
         name.ends_with(".index.json");
}

// Tokenizer, generation settings, licence; then config.json.
void copy_texts(const fs::path& in, const fs::path& out, const Json& packing) {
  for (const auto& entry : fs::directory_iterator(in)) {
    const fs::path& file = entry.path();
    if (!entry.is_regular_file() || holds_weights(file) || file.filename() == "config.json")
      continue;
    fs::copy_file(file, out / file.filename(), fs::copy_options::overwrite_existing);
  }
  Json config = read_config_file((in / "config.json").string(), "config.json");
  config["quantization_config"] = packing;
  AtomicFile file((out / "config.json").string());
  const std::string text = config.dump(2) + "\n";
  file.write(std::as_bytes(std::span(text)));
  file.commit();
}

}  // namespace

HfPacking folder_packing(HfPackMethod format, const GridParams& grid) {
  const bool awq = format == HfPackMethod::kAwq;
  const auto refuse = [&](std::string_view what) {
    fail(Code::kInvalidArgument, "[quant] {}: expected {}", awq ? "awq" : "gptq", what);
  };
  if (grid.kind == GridKind::kOffset) refuse("a grid that is symmetric or has a zero point");
  if (awq && grid.bits != 4) refuse("4 bits, others have no such files");
  if (grid.bits != 2 && grid.bits != 3 && grid.bits != 4 && grid.bits != 8)
    refuse("2, 3, 4 or 8 bits");
  if (grid.group % 32 != 0) refuse("groups of a multiple of 32, or 0 for whole rows");
  return {.method = format,
          .bits = grid.bits,
          .group = grid.group > 0 ? grid.group : HfPacking::kWholeRow,
          .zeros_less_one = !awq,
          .has_zeros = true};
}

QuantiseReport quantise_to_folder(ModelSession& session, const std::string& in, HfPackMethod format,
                                  std::span<const int32_t> tokens, const QuantiseOptions& options,
                                  ThreadPool& pool, const CalibratedProgress& progress) {
  check_calibration(options, tokens);
  QuantiseOptions own = options;
  // GPTQ's files store zero - 1, and readers disagree on what a stored -1 is.
  if (format == HfPackMethod::kGptq) own.gptq.grid.least_zero = 1;
  LayerQuantiser layers(session, tokens, own, pool, progress);
  FolderQuantiser folder(layers, in, format, own);
  const fs::path out(options.out);
  std::error_code ignored;
  for (const char* old : {"config.json", "model.safetensors.index.json"})
    fs::remove(out / old, ignored);  // what they describe is replaced
  try {
    folder.run();
  } catch (...) {
    fs::remove(out, ignored);  // if it is empty
    throw;
  }
  copy_texts(in, out, packing_json(folder.packing(), own));
  return std::move(layers.report());
}

}  // namespace hob
