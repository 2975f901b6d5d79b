// Checkpoints as GPTQ leaves them, inputs in their order or not, run straight from the folder.
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
    const auto fast =
        compare_logits(expected, ModelHarness(t.dir(), cpu).evaluate(tokens), kVocab);
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
