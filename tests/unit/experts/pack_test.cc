// Packs of models in every type, made and unpacked with the real kernels' layout.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "base/error.h"
#include "base/hash.h"
#include "experts/pack_builder.h"
#include "experts/pack_plan.h"
#include "format/gguf.h"
#include "format/gguf_writer.h"
#include "kernels/layout.h"
#include "tensor/dequant.h"
#include "tensor/quantise.h"
#include "tensor/quantise_search.h"

namespace hob {
namespace {

namespace fs = std::filesystem;

struct Shapes {
  int n_experts, d_ff, d_model;
};

// Weights as a trained matrix has them where hob can quantise, else any bytes: those are only
// moved.
std::vector<std::byte> make_tensor(DType dtype, int64_t n, std::mt19937& random) {
  std::vector<std::byte> bytes(row_bytes(dtype, n));
  if (!can_quantise(dtype)) {
    for (std::byte& b : bytes) b = static_cast<std::byte>(random());
    return bytes;
  }
  std::normal_distribution<float> normal(0, 0.05f);
  std::vector<float> values(static_cast<size_t>(n));
  for (float& v : values) v = normal(random);
  quantise_row(dtype, values.data(), n, bytes.data());
  return bytes;
}

// A GGUF file with the experts of two layers and nothing else, and its geometry.
class Model {
 public:
  explicit Model(DType dtype, Shapes s = {2, 96, 64}, unsigned seed = 1)
      : Model(dtype, dtype, s, seed) {}
  Model(DType dtype, DType down, Shapes s, unsigned seed) {
    std::string name = testing::TempDir() + "/hob_pack_XXXXXX";
    HOB_CHECK(mkdtemp(name.data()));
    folder_ = name;
    GgufWriter writer;
    writer.set("general.name", std::string("test model"));
    const char* parts[3] = {"gate", "up", "down"};
    for (int layer = 1; layer < 3; layer++)
      for (int part = 0; part < 3; part++)
        writer.add(fmt::format("blk.{}.ffn_{}_exps.weight", layer, parts[part]),
                   part == kDown ? down : dtype,
                   part == kDown ? Shape{s.n_experts, s.d_model, s.d_ff}
                                 : Shape{s.n_experts, s.d_ff, s.d_model});
    std::mt19937 random(seed);
    writer.write(path(), [&](const GgufWriter::Tensor& t, const GgufWriter::Sink& sink) {
      sink(make_tensor(t.dtype, t.shape.n_elements(), random));
    });
    open();
  }
  ~Model() { fs::remove_all(folder_); }
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  std::string path(const std::string& name = "model.gguf") const { return folder_ + "/" + name; }
  const ModelFile& file() const { return *file_; }
  std::vector<std::byte> stock(const ExpertMatrix& m, int expert) const {
    std::vector<std::byte> bytes(m.bytes_per_expert);
    FileSource(path()).read(m.offset + static_cast<uint64_t>(expert) * m.bytes_per_expert, bytes);
    return bytes;
  }

  ExpertGeometry geometry;

 private:
  void open() {
    file_ = open_gguf(path());
    geometry.files = file_->files();
    geometry.layers.resize(3);  // the first is dense
    const auto& tensors = file_->tensors();
    for (size_t i = 0; i < tensors.size(); i++) {
      const RawTensor& t = tensors[i];
      ExpertLayer& layer = geometry.layers[1 + i / 3];
      layer.n_experts = static_cast<int>(t.shape[0]);
      const auto rows = static_cast<int>(t.shape[1]), cols = static_cast<int>(t.shape[2]);
      layer.parts[i % 3] = {
          .dtype = t.dtype,
          .rows = rows,
          .cols = cols,
          .file = t.file,
          .offset = t.offset,
          .bytes_per_expert = row_bytes(t.dtype, cols) * static_cast<uint64_t>(rows),
          .reads = {}};
    }
  }

  std::string folder_;
  std::optional<ModelFile> file_;
};

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class Packing {
 public:
  explicit Packing(const Model& model, PackChoice choice = {.high = true, .low_bits = 4},
                   int n_threads = 3)
      : model_(model), choice_(choice), pool_(n_threads) {
    if (choice.low_bits) low_ = low_geometry(model.geometry, choice.low_bits);
  }

  PackIndex plan() const {
    return plan_pack(model_.geometry, *backend_, choice_, fingerprint_of(model_.file()));
  }
  PackBuild build() {
    return {model_.geometry, choice_.low_bits ? &low_ : nullptr, *backend_, pool_, importance};
  }
  // Stops with an exception after `stop_after` calls of the progress; < 0 = never.
  PackFile make(const std::string& path, int stop_after = -1) {
    PackWriter writer(path, plan());
    writer.check_resumed([](uint64_t, uint64_t) {});
    build_pack(writer, build(), [&](uint64_t, uint64_t) {
      if (stop_after-- == 0) fail(Code::kCancelled, "stopped");
    });
    writer.commit();
    return PackFile::open(path);
  }
  PackDamage verify(const PackFile& pack) { return verify_pack(pack, build(), {}); }
  const Backend& backend() const { return *backend_; }
  const ExpertGeometry& low() const { return low_; }

  ImportanceSource importance;

 private:
  const Model& model_;
  PackChoice choice_;
  std::unique_ptr<Backend> backend_ =
      make_cpu_backend({.n_threads = 1, .pin = false, .force_isa = {}});
  ThreadPool pool_;
  ExpertGeometry low_;
};

// Stock bytes of a part of a slab, through the inverse of the layout.
std::vector<std::byte> unpack(const std::string& pack, const ExpertLayer& layer, uint64_t offset,
                              int expert, size_t part) {
  const ExpertMatrix& m = layer.parts[part];
  std::vector<std::byte> stock(row_bytes(m.dtype, m.cols) * static_cast<size_t>(m.rows));
  unprepare_weight(m.dtype, m.rows, m.cols,
                   reinterpret_cast<const std::byte*>(pack.data()) +
                       layer.slabs[static_cast<size_t>(expert)].offset + offset,
                   stock.data());
  return stock;
}

void check_unpacks(const Model& model, Packing& packing, const PackFile& pack) {
  ExpertGeometry geometry = model.geometry;
  apply_pack(pack, model.file(), packing.backend(), geometry);
  const std::string bytes = read_file(pack.path());
  const std::vector<ExpertLayout> layouts = make_layouts(geometry, packing.backend());
  for (size_t i = 1; i < geometry.layers.size(); i++) {
    const ExpertLayer& layer = geometry.layers[i];
    ASSERT_EQ(layer.slab_file, 1);
    ASSERT_EQ(layer.slabs.size(), static_cast<size_t>(layer.n_experts));
    for (int e = 0; e < layer.n_experts; e++)
      for (size_t part = 0; part < 3; part++)
        EXPECT_EQ(unpack(bytes, layer, layouts[i].offset[part], e, part),
                  model.stock(layer.parts[part], e))
            << "blk." << i << " expert " << e << " part " << part;
  }
}

// The low slab holds what the quantiser makes of the model's values, nothing else.
void check_low(const Model& model, Packing& packing, const PackFile& pack) {
  ExpertGeometry geometry = model.geometry;
  apply_pack(pack, model.file(), packing.backend(), geometry);
  ASSERT_EQ(geometry.low.size(), geometry.layers.size());
  const std::string bytes = read_file(pack.path());
  const std::vector<ExpertLayout> layouts = make_layouts(packing.low(), packing.backend());
  const ExpertLayer& low = geometry.low[2];
  const int expert = low.n_experts - 1;
  for (size_t part = 0; part < 3; part++) {
    const ExpertMatrix &from = model.geometry.layers[2].parts[part], &to = low.parts[part];
    const std::vector<std::byte> stock = model.stock(from, expert);
    std::vector<float> row(static_cast<size_t>(from.cols));
    std::vector<std::byte> expected(row_bytes(to.dtype, to.cols) * static_cast<size_t>(to.rows));
    for (size_t r = 0; r < static_cast<size_t>(from.rows); r++) {
      dequantise_row(from.dtype, stock.data() + r * row_bytes(from.dtype, from.cols), from.cols,
                     row.data());
      const ExpertImportance importance =
          packing.importance ? packing.importance({2, expert}) : ExpertImportance{};
      quantise_row_search(to.dtype, row.data(), to.cols,
                          importance[part].empty() ? nullptr : importance[part].data(),
                          expected.data() + r * row_bytes(to.dtype, to.cols));
    }
    EXPECT_EQ(unpack(bytes, low, layouts[2].offset[part], expert, part), expected);
  }
}

std::vector<DType> all_types() {
  std::vector<DType> types;
  for (const DTypeInfo& info : dtype_table())
    if (!is_internal(info.type)) types.push_back(info.type);
  return types;
}

class PackTypes : public testing::TestWithParam<DType> {};

TEST_P(PackTypes, UnpackedHighSlabsAreTheModelsBytes) {
  const DTypeInfo& info = dtype_info(GetParam());
  const int block = info.block > 32 ? info.block : 32;
  for (const Shapes s : {Shapes{2, 3 * block, 2 * block}, Shapes{3, 5 * block, block}}) {
    const Model model(GetParam(), s);
    Packing packing(model, {.high = true, .low_bits = 0});
    const PackFile pack = packing.make(model.path("x.hobpack"));
    check_unpacks(model, packing, pack);
    EXPECT_EQ(packing.verify(pack).n_bad, 0);
  }
}

// Rows that fill no panel, in types whose rows may have any length.
TEST_P(PackTypes, RowsThatFillNoPanel) {
  const DTypeInfo& info = dtype_info(GetParam());
  if (info.block > 1) {
    // Widths are multiples of the block; the row count of gate and up is d_ff, free of down's type.
    const Model model(GetParam(), DType::kF32, {2, 50, 2 * info.block}, 1);
    Packing packing(model, {.high = true, .low_bits = 0});
    check_unpacks(model, packing, packing.make(model.path("x.hobpack")));
  } else {
    const Model model(GetParam(), {3, 50, 37});
    Packing packing(model, {.high = true, .low_bits = 0});
    check_unpacks(model, packing, packing.make(model.path("x.hobpack")));
  }
}

INSTANTIATE_TEST_SUITE_P(Pack, PackTypes, testing::ValuesIn(all_types()),
                         [](const auto& p) { return std::string(dtype_info(p.param).name); });

TEST(Pack, AwkwardWidthsInBothCopies) {
  for (const int d_ff : {1408, 576, 96})
    for (const DType dtype : {DType::kF16, DType::kBF16, DType::kF32, DType::kQ8_0}) {
      SCOPED_TRACE(fmt::format("{} {}", d_ff, dtype_info(dtype).name));
      const Model model(dtype, {2, d_ff, 64});
      Packing packing(model);
      const PackFile pack = packing.make(model.path("x.hobpack"));
      check_unpacks(model, packing, pack);
      check_low(model, packing, pack);
      EXPECT_EQ(packing.verify(pack).n_bad, 0);
    }
}

TEST(Pack, LowCopiesOfEveryWidthAndSource) {
  for (const DType dtype : {DType::kQ4_K, DType::kQ6_K, DType::kQ5_0, DType::kQ8_0, DType::kF16})
    for (const int bits : {2, 3, 4}) {
      SCOPED_TRACE(fmt::format("{} {}", bits, dtype_info(dtype).name));
      if (expert_bits(Model(dtype, {1, 256, 256}).geometry) <= bits + 1) continue;
      const Model model(dtype, {2, 256, 512});
      Packing packing(model, {.high = false, .low_bits = bits});
      const PackFile pack = packing.make(model.path("x.hobpack"));
      check_low(model, packing, pack);
      ExpertGeometry geometry = model.geometry;
      apply_pack(pack, model.file(), packing.backend(), geometry);
      EXPECT_EQ(geometry.layers[1].slab_file, -1);  // high stays in the model
      EXPECT_TRUE(geometry.layers[1].slabs.empty());
      EXPECT_LT(expert_bits({.files = {}, .maker = {}, .layers = geometry.low, .low = {}}),
                bits + 1);
    }
}

TEST(Pack, ImportanceReachesTheQuantiser) {
  const Model model(DType::kF16, {2, 96, 64});
  std::vector<float> wide(64, 1e-3f), narrow(96, 1e-3f);
  wide[5] = narrow[70] = 1e3f;
  Packing plain(model, {.high = false, .low_bits = 2}),
      weighted(model, {.high = false, .low_bits = 2});
  weighted.importance = [&](ExpertKey) -> ExpertImportance { return {wide, wide, narrow}; };
  const PackFile pack = weighted.make(model.path("b.hobpack"));
  check_low(model, weighted, pack);
  check_low(model, plain, plain.make(model.path("a.hobpack")));
  EXPECT_NE(read_file(model.path("a.hobpack")), read_file(model.path("b.hobpack")));
}

TEST(Pack, ThreadsDoNotChangeTheBytes) {
  const Model model(DType::kF16, {4, 160, 96});
  Packing one(model, {.high = true, .low_bits = 4}, 1),
      four(model, {.high = true, .low_bits = 4}, 4);
  one.make(model.path("a"));
  four.make(model.path("b"));
  EXPECT_EQ(read_file(model.path("a")), read_file(model.path("b")));
}

TEST(Pack, ResumedGivesTheSameBytes) {
  const Model model(DType::kQ8_0, {4, 96, 64});
  Packing packing(model);
  packing.make(model.path("whole"));
  const std::string expected = read_file(model.path("whole"));
  for (int stop = 0; stop < 9; stop++) {
    EXPECT_THROW(packing.make(model.path("x"), stop), Error) << stop;
    EXPECT_FALSE(fs::exists(model.path("x")));
    if (stop % 2 && stop < 6) {  // interrupted again
      EXPECT_THROW(packing.make(model.path("x"), 0), Error);
    }
    packing.make(model.path("x"));
    EXPECT_EQ(read_file(model.path("x")), expected);
    fs::remove(model.path("x"));
  }
}

TEST(Pack, DamageIsFoundAndNamed) {
  const Model model(DType::kQ8_0, {2, 96, 64});
  Packing packing(model);
  const PackFile pack = packing.make(model.path("x"));
  const auto flip = [&](const PackSlabId& id, uint64_t at) {
    std::fstream file(pack.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<long>(slab_of(pack.index(), id).offset + at));
    const int was = file.get();
    file.seekp(static_cast<long>(slab_of(pack.index(), id).offset + at));
    file.put(static_cast<char>(was ^ 1));
  };
  flip({2, kPackLow, 1}, 100);
  PackDamage damage = packing.verify(PackFile::open(pack.path()));
  EXPECT_EQ(damage.n_bad, 1);
  EXPECT_EQ(damage.n_slabs, 8);
  EXPECT_EQ(damage.first.rfind("blk.2 expert 1 (low): expected hash ", 0), 0u) << damage.first;
  flip({1, kPackHigh, 0}, slab_of(pack.index(), {1, kPackHigh, 0}).n_bytes - 1);  // padding counts
  damage = packing.verify(PackFile::open(pack.path()));
  EXPECT_EQ(damage.n_bad, 2);
  EXPECT_EQ(damage.first.rfind("blk.1 expert 0 (high)", 0), 0u) << damage.first;
}

void expect_not_applied(const PackFile& pack, const Model& model, const Backend& backend,
                        const std::string& part) {
  ExpertGeometry geometry = model.geometry;
  try {
    apply_pack(pack, model.file(), backend, geometry);
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
    EXPECT_EQ(std::string(e.what()).rfind("[pack] ", 0), 0u) << e.what();
  }
  EXPECT_EQ(geometry.files.size(), 1u);  // untouched
  EXPECT_TRUE(geometry.low.empty());
}

TEST(Pack, AnotherModelIsRefused) {
  const Model model(DType::kQ8_0);
  Packing packing(model);
  const PackFile pack = packing.make(model.path("x"));
  expect_not_applied(pack, Model(DType::kQ8_0, {2, 96, 96}), packing.backend(), "another size");
  expect_not_applied(pack, Model(DType::kF16, {2, 96, 64}), packing.backend(), "another size");
  // The very same header and size: a fine-tuned model.
  expect_not_applied(pack, Model(DType::kQ8_0, {2, 96, 64}, 2), packing.backend(), "other weights");
  ExpertGeometry same = Model(DType::kQ8_0, {2, 96, 64}, 1).geometry;
  EXPECT_NO_THROW(apply_pack(pack, Model(DType::kQ8_0).file(), packing.backend(), same));
}

// A file that claims the right model and other shapes or sizes must not reach the loader.
TEST(Pack, ShapesAndSizesAreCheckedBeforeAnythingIsRead) {
  const Model model(DType::kQ8_0);
  Packing packing(model);
  const auto pack_of = [&](const std::function<void(PackIndex&)>& change) {
    PackIndex index = packing.plan();
    change(index);
    place_slabs(index);
    PackWriter writer(model.path("y"), index);
    for (const PackSlabId& id : slab_order(index)) {
      const AlignedBuffer zeros(slab_of(index, id).n_bytes);
      writer.write(id, {zeros.data(), slab_of(index, id).n_bytes});
    }
    writer.commit();
    return PackFile::open(model.path("y"));
  };
  const auto refused = [&](const std::string& part, const std::function<void(PackIndex&)>& change) {
    expect_not_applied(pack_of(change), model, packing.backend(), part);
  };
  refused("slabs of", [](PackIndex& i) { i.layers[1].copies[kPackHigh].slabs[1].n_bytes += 4096; });
  refused("slabs of", [](PackIndex& i) { i.layers[2].copies[kPackLow].slabs[0].n_bytes += 4096; });
  refused("Q8_0 [96,64], the pack has Q4_0",
          [](PackIndex& i) { i.layers[1].copies[kPackHigh].parts[0].dtype = DType::kQ4_0; });
  refused("the pack has Q4_0 [64,64]", [](PackIndex& i) {
    i.layers[1].copies[kPackLow].parts[0] = {DType::kQ4_0, 64, 64};
  });
  refused("layers", [](PackIndex& i) { i.layers.pop_back(); });
  refused("experts in blk.2", [](PackIndex& i) {
    i.layers[2].n_experts = 1;
    for (PackCopy& copy : i.layers[2].copies) copy.slabs.resize(1);
  });
  refused("experts in blk.1", [](PackIndex& i) { i.layers[1].copies[kPackLow].slabs.clear(); });
}

TEST(Pack, ChoicesThatMakeNoSenseAreRefused) {
  const Model model(DType::kQ4_0);
  EXPECT_THROW(Packing(model, {.high = true, .low_bits = 4}).plan(), Error);   // no smaller
  EXPECT_THROW(Packing(model, {.high = false, .low_bits = 0}).plan(), Error);  // nothing
  const auto backend = make_cpu_backend({.n_threads = 1, .pin = false, .force_isa = {}});
  ExpertGeometry dense;
  dense.layers.resize(3);
  EXPECT_THROW(plan_pack(dense, *backend, {}, {.name = "x", .files = {}}), Error);
}

TEST(Pack, DefaultBitsFollowTheSource) {
  EXPECT_EQ(default_low_bits(expert_bits(Model(DType::kF16).geometry)), 4);
  EXPECT_EQ(default_low_bits(expert_bits(Model(DType::kQ8_0).geometry)), 2);
  EXPECT_EQ(default_low_bits(expert_bits(Model(DType::kQ4_K, {1, 256, 256}).geometry)), 2);
  EXPECT_EQ(default_low_bits(expert_bits(Model(DType::kQ2_K, {1, 256, 256}).geometry)), 0);
}

TEST(Pack, ModelThatShrinksMeanwhileIsAnError) {
  const Model model(DType::kQ8_0, {4, 96, 64});
  Packing packing(model);
  PackWriter writer(model.path("x"), packing.plan());
  fs::resize_file(model.path(), fs::file_size(model.path()) - 2000);
  EXPECT_THROW(build_pack(writer, packing.build(), {}), Error);
}

}  // namespace
}  // namespace hob
