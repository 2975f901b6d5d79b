#include "unit/model/model_checks_util.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>

#include "model/dense_weights.h"

namespace hob {
namespace {

using Tokens = ModelHarness::Tokens;
using Logits = ModelHarness::Logits;

Tokens random_tokens(unsigned seed, int n, int n_vocab) {
  std::mt19937 rng(seed);
  Tokens tokens;
  for (int i = 0; i < n; i++)
    tokens.push_back(static_cast<int32_t>(rng() % static_cast<unsigned>(n_vocab)));
  return tokens;
}

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

void expect_same_bits_however_batched(const std::string& path, const BackendFactory& backend,
                                      KvType kv) {
  ModelHarness model(path, backend, {.kv_type = kv});
  // Longer than two KV blocks and not a multiple of one; the neighbours have other lengths.
  const Tokens tokens = random_tokens(1, 37, model.n_vocab());
  const Logits whole = model.evaluate(tokens);
  for (int chunk : {1, 3, 16})
    EXPECT_TRUE(same_bits(whole, model.evaluate(tokens, chunk))) << "chunk " << chunk;
  const std::vector<Tokens> batch{random_tokens(2, 5, model.n_vocab()), tokens,
                                  random_tokens(3, 20, model.n_vocab()), tokens};
  for (int chunk : {1, 7, 16}) {
    const std::vector<Logits> together = model.evaluate_together(batch, chunk);
    EXPECT_TRUE(same_bits(whole, together[1])) << "beside others, chunk " << chunk;
    EXPECT_TRUE(same_bits(whole, together[3])) << "beside others, chunk " << chunk;
    EXPECT_TRUE(same_bits(model.evaluate(batch[2]), together[2]))
        << "beside others, chunk " << chunk;
  }
  const std::span<const float> last =
      std::span<const float>(whole).last(static_cast<size_t>(model.n_vocab()));
  EXPECT_TRUE(same_bits(last, model.evaluate_last(tokens)));
}

// q8 needs heads of whole scale blocks, and the naive backend does not store it.
bool can_store(KvType kv, const std::string& path, const BackendFactory& backend) {
  if (kv != KvType::kQ8) return true;
  const std::unique_ptr<Backend> b = backend();
  const ModelFile file = open_test_model(path);
  const KvGeometry geometry = bind_layout(file, *b).kv(kv);
  return b->isa() != "naive" &&
         std::all_of(geometry.layers.begin(), geometry.layers.end(), [](const auto& l) {
           return l.d_k % kKvScaleWidth == 0 && l.d_v % kKvScaleWidth == 0;
         });
}

}  // namespace

std::vector<std::string> logits_fixture_names() {
  std::vector<std::string> names{
      "llama",    "llama_yarn", "llama_linear_tied", "qwen2_small",   "qwen3_yarn", "qwen2moe",
      "qwen3moe", "olmoe",      "mixtral-Q2_K",      "mixtral-Q4_K_M"};
  for (const char* more : {"mixtral", "mixtral-F16", "mixtral-BF16", "mixtral-Q8_0", "mixtral-Q4_0",
                           "mixtral-Q6_K", "qwen2", "qwen3", "gemma3", "gpt-oss", "deepseek2"})
    if (!find_logits_fixture(more).empty()) names.push_back(more);
  return names;
}

std::string find_logits_fixture(const std::string& name) {
  const char* given = std::getenv("HOB_FIXTURES");
  for (const std::string& dir :
       {std::string(HOB_TEST_DATA "/model"), std::string(given ? given : ""),
        std::string(HOB_SOURCE_DIR "/../shared/fixtures/logits")})
    if (!dir.empty() && std::filesystem::exists(dir + "/" + name + ".gguf"))
      return dir + "/" + name;
  return "";
}

void expect_fixture(const std::string& name, const BackendFactory& backend) {
  const std::string path = find_logits_fixture(name);
  ASSERT_NE(path, "");
  const LogitsFixture fixture = read_logits_fixture(path);
  ModelHarness model(path + ".gguf", backend);
  const LogitsDifference d =
      compare_logits(fixture.logits, model.evaluate(fixture.tokens), model.n_vocab());
  ::testing::Test::RecordProperty("max_abs", std::to_string(d.max_abs));
  ::testing::Test::RecordProperty("mean_kl", std::to_string(d.mean_kl));
  const bool is_f32 = !name.starts_with("mixtral-");
  if (is_f32) {
    EXPECT_LE(d.max_abs, 2e-3);
    EXPECT_EQ(d.same_argmax, 1.0);
  } else {
    EXPECT_LE(d.mean_kl, 8e-3);
    EXPECT_GE(d.same_argmax, 0.9);
  }
}

void expect_same_bits_however_batched(const std::string& model_path,
                                      const BackendFactory& backend) {
  for (KvType kv : {KvType::kF32, KvType::kF16, KvType::kQ8}) {
    if (!can_store(kv, model_path, backend)) continue;
    SCOPED_TRACE(kv_type_name(kv));
    expect_same_bits_however_batched(model_path, backend, kv);
  }
}

void expect_same_bits_with_one_slot(const std::string& model_path, const BackendFactory& backend) {
  ModelHarness resident(model_path, backend),
      streaming(model_path, backend, {.expert_budget_bytes = 1});
  ASSERT_LT(streaming.experts()->budget_bytes(), resident.experts()->budget_bytes() / 2);
  const Tokens tokens = random_tokens(4, 21, resident.n_vocab());
  const Logits expected = resident.evaluate(tokens);
  for (int chunk : {0, 1, 4})
    EXPECT_TRUE(same_bits(expected, streaming.evaluate(tokens, chunk))) << "chunk " << chunk;
  EXPECT_GT(streaming.experts()->stats().evictions, 0u);
}

void expect_prepare_works_in_pieces(const BackendFactory& backend) {
  const std::unique_ptr<Backend> b = backend();
  constexpr int kRows = 2 * kPieceRows + 7, kCols = 512;
  std::mt19937 rng(5);
  for (const DTypeInfo& type : dtype_table()) {
    const size_t stock_row = row_bytes(type.type, kCols);
    std::vector<std::byte> stock(stock_row * kRows);
    for (std::byte& v : stock) v = static_cast<std::byte>(rng());
    const size_t n_bytes = b->prepared_bytes(type.type, kRows, kCols);
    AlignedBuffer whole(n_bytes), pieces(n_bytes);
    b->prepare(type.type, kRows, kCols, stock.data(), whole.data());
    for (int row = 0; row < kRows; row += kPieceRows)
      b->prepare(type.type, std::min(kPieceRows, kRows - row), kCols,
                 stock.data() + stock_row * static_cast<size_t>(row),
                 pieces.data() + (row ? b->prepared_bytes(type.type, row, kCols) : 0));
    EXPECT_EQ(std::memcmp(whole.data(), pieces.data(), n_bytes), 0) << type.name;
  }
}

}  // namespace hob
