// Checkpoints as GPTQ leaves them, inputs in their order or not, run straight from the folder.
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "format/gguf_writer.h"
#include "format/row_reader.h"
#include "hf/convert.h"
#include "hf/open_model.h"
#include "unit/hf/packed_checkpoint_util.h"
#include "unit/model/model_checks_util.h"
#include "unit/model/naive_backend_util.h"
#include "unit/model/temp_dir_util.h"

namespace hob {
namespace {

std::unique_ptr<Backend> cpu() { return make_cpu_backend({.n_threads = 2, .force_isa = {}}); }

class PackedModel : public PackedCheckpoint {
 protected:
  PackedModel() { set_model_opener(open_model_file); }

  void check() {
    t.write();
    const std::string file = dir_ / "model.gguf";
    write_gguf(HfCheckpoint::open(t.dir(), HfOutType::kF32), file, [](uint64_t, uint64_t) {});
    std::vector<int32_t> tokens;
    for (int i = 0; i < 50; i++) tokens.push_back(i * 37 % 300);
    // The file has its weights as plain numbers: the same sums, in another order.
    const auto expected = ModelHarness(file, make_naive_backend).evaluate(tokens);
    const auto exact = compare_logits(
        expected, ModelHarness(t.dir(), make_naive_backend).evaluate(tokens), kVocab);
    EXPECT_LE(exact.max_abs, 1e-4);
    const auto fast = compare_logits(expected, ModelHarness(t.dir(), cpu).evaluate(tokens), kVocab);
    EXPECT_LE(fast.mean_kl, 8e-3);
    EXPECT_GE(fast.same_argmax, 0.9);
    expect_same_bits_however_batched(t.dir(), cpu);
    expect_same_bits_with_one_slot(t.dir(), cpu);
  }

  TempDir dir_;
};

TEST_F(PackedModel, RunsFromItsFolder) { check(); }

TEST_F(PackedModel, RunsWithInputsInAnotherOrder) {
  shuffle_all();
  check();
  ModelHarness model(t.dir(), cpu);
  EXPECT_TRUE(model.layout().has_orders);
}

// Orders are hob's own, but a file may hold anything: nothing outside the input is ever read.
TEST_F(PackedModel, OrdersThatAreNoneAreRefused) {
  t.write();
  const std::string plain = dir_ / "plain.gguf", bad = dir_ / "bad.gguf";
  write_gguf(HfCheckpoint::open(t.dir(), HfOutType::kF32), plain, [](uint64_t, uint64_t) {});
  const ModelFile model = open_gguf(plain);
  RowReader rows(model);
  const auto error_of = [&](std::vector<float> order) -> std::string {
    GgufWriter writer;
    writer.set_all(model.metadata());
    for (const RawTensor& raw : model.tensors()) writer.add(raw.name, raw.dtype, raw.shape);
    writer.add("blk.0.attn_q.order", DType::kF32, {static_cast<int64_t>(order.size())});
    writer.write(bad, [&](const GgufWriter::Tensor& asked, const GgufWriter::Sink& sink) {
      const RawTensor* raw = model.find(asked.name);
      if (!raw) return sink(std::as_bytes(std::span(order)));
      std::vector<std::byte> bytes(asked.n_bytes);
      rows.read(*raw, 0, raw->shape.rows(), bytes);
      sink(bytes);
    });
    try {
      ModelHarness(bad, cpu);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  std::vector<float> order(kWidth);
  std::iota(order.rbegin(), order.rend(), 0.f);
  EXPECT_EQ(error_of(order), "");
  for (const float wrong : {-1.f, 64.f, 3.5f, NAN, 1e30f, order[1]}) {
    order[0] = wrong;
    EXPECT_NE(error_of(order).find("blk.0.attn_q.order: expected every input from 0 to 63 once"),
              std::string::npos)
        << wrong;
  }
  order.resize(32);
  EXPECT_NE(error_of(order).find("blk.0.attn_q.order: expected [64] of F32, file has [32]"),
            std::string::npos);
}

// A prefill of more rows than are put in order at once, and experts of which one has an order.
TEST_F(PackedModel, RunsWithSomeInAnotherOrder) {
  add_groups("model.layers.0.block_sparse_moe.experts.1.w2", shuffled_groups());
  add_groups("model.layers.0.self_attn.k_proj", shuffled_groups());
  check();
  std::vector<int32_t> tokens;
  for (int i = 0; i < 200; i++) tokens.push_back(i * 11 % 300);
  const HarnessOptions whole{.max_rows = 200, .n_ctx = 256};
  EXPECT_EQ(ModelHarness(t.dir(), cpu, whole).evaluate(tokens),
            ModelHarness(t.dir(), cpu, whole).evaluate(tokens, 1));
}

}  // namespace
}  // namespace hob
