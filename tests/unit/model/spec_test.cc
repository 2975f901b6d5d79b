// Metadata -> spec: what each family gets, and one clear error for everything that cannot be.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "model/bind.h"
#include "model/families/family.h"
#include "unit/model/metadata_util.h"

namespace hob {
namespace {

ModelSpec spec_of(const Metadata& m) {
  return read_spec(m, valid_tensors(valid_metadata(m.get_string("general.architecture"))));
}

TEST(Spec, Llama) {
  Metadata m = valid_metadata("llama");
  m.set("llama.rope.freq_base", 5e5);
  const ModelSpec s = spec_of(m);
  EXPECT_EQ(s.arch, "llama");
  EXPECT_EQ(s.family, "llama");
  EXPECT_EQ(s.name, "tiny");
  EXPECT_EQ(s.n_layers, 2);
  EXPECT_EQ(s.d_model, 32);
  EXPECT_EQ(s.d_ff, 48);
  EXPECT_EQ(s.n_vocab, 100);
  EXPECT_EQ(s.n_ctx_train, 512);
  EXPECT_FLOAT_EQ(s.norm_eps, 1e-5f);
  EXPECT_EQ(s.attn.d_k, 8);
  EXPECT_EQ(s.attn.d_v, 8);
  EXPECT_EQ(s.attn.n_kv_heads, 2);
  EXPECT_FALSE(s.attn.bias_qkv);
  EXPECT_EQ(s.rope.kind, RopeKind::kAdjacent);
  EXPECT_EQ(s.rope.d_rot, 8);
  EXPECT_FLOAT_EQ(s.rope.theta, 5e5f);
  EXPECT_FALSE(s.is_moe());
  EXPECT_FALSE(s.tied_embeddings);
}

TEST(Spec, MistralHasItsWindowInEveryLayer) {
  Metadata m = valid_metadata("llama");
  EXPECT_FALSE(spec_of(m).is_local(0));
  m.set("llama.attention.sliding_window", uint64_t{128});
  EXPECT_TRUE(spec_of(m).is_local(0) && spec_of(m).is_local(1));
  EXPECT_EQ(spec_of(m).n_ctx_train, 512);
}

TEST(Spec, Mixtral) {
  Metadata m = valid_metadata("llama");
  m.set("llama.expert_count", uint64_t{8});
  m.set("llama.expert_used_count", uint64_t{2});
  const ModelSpec s = spec_of(m);
  EXPECT_EQ(s.moe.n_experts, 8);
  EXPECT_EQ(s.moe.top_k, 2);
  EXPECT_EQ(s.moe.d_expert, 48);
  EXPECT_TRUE(s.moe.route.renormalise);
}

TEST(Spec, QwenAndOlmoe) {
  EXPECT_TRUE(spec_of(valid_metadata("qwen2")).attn.bias_qkv);
  EXPECT_EQ(spec_of(valid_metadata("qwen2")).rope.kind, RopeKind::kHalves);
  EXPECT_EQ(spec_of(valid_metadata("qwen3")).attn.qk_norm, QkNorm::kPerHead);
  const ModelSpec qwen3moe = spec_of(valid_metadata("qwen3moe"));
  EXPECT_EQ(qwen3moe.attn.qk_norm, QkNorm::kPerHead);
  EXPECT_TRUE(qwen3moe.moe.route.renormalise);
  const ModelSpec olmoe = spec_of(valid_metadata("olmoe"));
  EXPECT_EQ(olmoe.attn.qk_norm, QkNorm::kFullWidth);
  EXPECT_FALSE(olmoe.moe.route.renormalise);
  EXPECT_EQ(olmoe.moe.d_expert, 48);
}

TEST(Spec, Qwen2MoeWidthsFallBackToTheOldMeaning) {
  Metadata m = valid_metadata("qwen2moe");
  EXPECT_EQ(spec_of(m).moe.d_expert, 24);  // 48 / 2 experts per token
  EXPECT_EQ(spec_of(m).moe.d_shared, 48);
  EXPECT_TRUE(spec_of(m).moe.shared_gated);
  m.set("qwen2moe.expert_feed_forward_length", uint64_t{40});
  m.set("qwen2moe.expert_shared_feed_forward_length", uint64_t{56});
  EXPECT_EQ(spec_of(m).moe.d_expert, 40);
  EXPECT_EQ(spec_of(m).moe.d_shared, 56);
}

TEST(Spec, RopeScaling) {
  Metadata m = valid_metadata("llama");
  m.set("llama.rope.scaling.factor", 4.0);
  EXPECT_EQ(spec_of(m).rope.scaling, RopeScaling::kLinear);
  m.set("llama.rope.scaling.type", std::string("none"));
  EXPECT_EQ(spec_of(m).rope.scaling, RopeScaling::kNone);
  EXPECT_EQ(spec_of(m).rope.factor, 1.f);
  m.set("llama.rope.scaling.type", std::string("yarn"));
  EXPECT_EQ(spec_of(m).rope.scaling, RopeScaling::kYarn);
  EXPECT_EQ(spec_of(m).rope.original_ctx, 512);
  m.set("llama.rope.scaling.original_context_length", uint64_t{128});
  EXPECT_EQ(spec_of(m).rope.original_ctx, 128);
  EXPECT_EQ(spec_of(m).rope.factor, 4.f);
}

TEST(Spec, LayersOfGemma3AndGptOssAlternate) {
  Metadata m = valid_metadata("gemma3");
  m.set("gemma3.attention.sliding_window", uint64_t{64});
  m.set("gemma3.rope.freq_base", 1e6);
  const ModelSpec gemma = spec_of(m);
  for (int l = 0; l < 12; l++) EXPECT_EQ(gemma.is_local(l), l != 5 && l != 11) << l;
  EXPECT_EQ(gemma.rope.theta, 1e6f);
  EXPECT_EQ(gemma.rope_local.theta, 1e4f);
  m = valid_metadata("gpt-oss");
  EXPECT_FALSE(spec_of(m).is_local(0));  // no window
  m.set("gpt-oss.attention.sliding_window", uint64_t{128});
  EXPECT_TRUE(spec_of(m).is_local(0));
  EXPECT_FALSE(spec_of(m).is_local(1));
}

TEST(Spec, DeepSeekHeadsAreNotTheCachesWidths) {
  Metadata m = valid_metadata("deepseek2");
  const AttnSpec old = spec_of(m).attn;
  m.set("deepseek2.attention.key_length", uint64_t{20});
  m.set("deepseek2.attention.value_length", uint64_t{16});
  m.set("deepseek2.attention.key_length_mla", uint64_t{12});
  m.set("deepseek2.attention.value_length_mla", uint64_t{8});
  m.set("deepseek2.attention.head_count_kv", uint64_t{1});
  const ModelSpec s = spec_of(m);
  for (const AttnSpec& a : {old, s.attn}) {
    EXPECT_EQ(a.d_k, 12);
    EXPECT_EQ(a.d_v, 8);
    EXPECT_EQ(a.d_latent, 16);
  }
  EXPECT_FALSE(s.is_moe_layer(0));
  EXPECT_TRUE(s.is_moe_layer(1));
  EXPECT_EQ(s.moe.d_shared, 48);
}

TEST(Spec, PhiMoeIsReadAsPublishedUnlessAsked) {
  const Metadata m = valid_metadata("phimoe");
  const ModelSpec s = spec_of(m), peer = read_spec(m, valid_tensors(m), Compat::kLlamaCpp);
  EXPECT_TRUE(s.layer_norm);
  EXPECT_EQ(s.moe.route.kind, Router::kSparseMixer);
  EXPECT_FALSE(peer.layer_norm);
  EXPECT_TRUE(peer.norm_biases);
  EXPECT_EQ(peer.moe.route.kind, Router::kSoftmax);
  EXPECT_TRUE(peer.moe.route.renormalise);
}

TEST(Spec, VocabularyIsTheTokenizersList) {
  Metadata m = valid_metadata("llama");
  m.set("tokenizer.ggml.tokens", std::vector<std::string>(90, "x"));
  EXPECT_EQ(spec_of(m).n_vocab, 90);
  EXPECT_EQ(spec_of(without(valid_metadata("llama"), "llama.vocab_size")).n_vocab,
            100);  // rows of the embedding
}

TEST(Spec, UnknownArchitectureListsTheKnownOnes) {
  Metadata m;
  m.set("general.architecture", std::string("mamba"));
  try {
    read_spec(m, {});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kUnimplemented);
    const std::string text = e.what();
    EXPECT_NE(text.find("mamba"), std::string::npos);
    for (const Family& f : family_table()) EXPECT_NE(text.find(f.arch), std::string::npos) << text;
  }
}

struct BadKey {
  const char* name;
  const char* arch;
  const char* key;  // after the architecture's prefix
  MetaValue value;
  bool missing = false;  // the key is taken out instead
};

const double kNan = std::numeric_limits<double>::quiet_NaN();

std::vector<BadKey> bad_keys() {
  const auto u = [](uint64_t v) { return MetaValue(v); };
  const auto s = [](const char* v) { return MetaValue(std::string(v)); };
  return {
      {"NoLayers", "llama", "block_count", u(0)},
      {"LayersAbsurd", "llama", "block_count", u(uint64_t{1} << 31)},
      {"LayersNegative", "llama", "block_count", MetaValue(int64_t{-1})},
      {"LayersMissing", "llama", "block_count", u(0), true},
      {"LayersAreText", "llama", "block_count", s("two")},
      {"WidthZero", "llama", "embedding_length", u(0)},
      {"WidthMissing", "llama", "embedding_length", u(0), true},
      {"ContextAbsurd", "llama", "context_length", u(uint64_t{1} << 40)},
      {"ContextZero", "llama", "context_length", u(0)},
      {"ContextMissing", "llama", "context_length", u(0), true},
      {"NoHeads", "llama", "attention.head_count", u(0)},
      {"HeadsMissing", "llama", "attention.head_count", u(0), true},
      {"HeadsAreAList", "llama", "attention.head_count", MetaValue(std::vector<int64_t>{4, 4})},
      {"HeadsDoNotDivideWidth", "llama", "attention.head_count", u(6)},
      {"NoKvHeads", "llama", "attention.head_count_kv", u(0)},
      {"KvHeadsDoNotDivide", "llama", "attention.head_count_kv", u(3)},
      {"KvHeadsMoreThanHeads", "llama", "attention.head_count_kv", u(8)},
      {"HeadWidthAbsurd", "llama", "attention.key_length", u(1 << 22)},
      {"RotationOdd", "llama", "rope.dimension_count", u(7)},
      {"RotationZero", "llama", "rope.dimension_count", u(0)},
      {"RotationWiderThanHead", "llama", "rope.dimension_count", u(10)},
      {"ThetaZero", "llama", "rope.freq_base", MetaValue(0.0)},
      {"ThetaNan", "llama", "rope.freq_base", MetaValue(kNan)},
      {"ScalingTypeUnknown", "llama", "rope.scaling.type", s("dynamic")},
      {"ScalingFactorNegative", "llama", "rope.scaling.factor", MetaValue(-2.0)},
      {"ScalingFactorInfinite", "llama", "rope.scaling.factor", MetaValue(HUGE_VAL)},
      {"EpsilonMissing", "llama", "attention.layer_norm_rms_epsilon", u(0), true},
      {"EpsilonNan", "llama", "attention.layer_norm_rms_epsilon", MetaValue(kNan)},
      {"EpsilonNegative", "llama", "attention.layer_norm_rms_epsilon", MetaValue(-1e-5)},
      {"EpsilonIsText", "llama", "attention.layer_norm_rms_epsilon", s("1e-5")},
      {"FeedForwardMissing", "llama", "feed_forward_length", u(0), true},
      {"FeedForwardAbsurd", "llama", "feed_forward_length", u(uint64_t{1} << 33)},
      {"NoExperts", "olmoe", "expert_count", u(0)},
      {"ExpertsMissing", "olmoe", "expert_count", u(0), true},
      {"ExpertsAbsurd", "olmoe", "expert_count", u(uint64_t{1} << 40)},
      {"NoExpertsUsed", "olmoe", "expert_used_count", u(0)},
      {"MoreExpertsUsedThanThere", "olmoe", "expert_used_count", u(7)},
      {"ExpertsUsedMissing", "qwen2moe", "expert_used_count", u(0), true},
      {"ExpertWidthZero", "qwen3moe", "expert_feed_forward_length", u(0)},
      {"SigmoidRouter", "qwen3moe", "expert_gating_func", u(2)},
      {"GroupedRouter", "qwen3moe", "expert_group_count", u(4)},
      {"RouterScaleNan", "qwen3moe", "expert_weights_scale", MetaValue(kNan)},
      {"CompressedQuery", "deepseek2", "attention.q_lora_rank", u(8)},
      {"LatentMissing", "deepseek2", "attention.kv_lora_rank", u(0), true},
      {"LatentTooWide", "deepseek2", "attention.kv_lora_rank", u(2000)},
      {"LatentWithoutUnrotatedPart", "deepseek2", "rope.dimension_count", u(12)},
      {"SigmoidRouterOfDeepSeek", "deepseek2", "expert_gating_func", u(2)},
      {"SoftmaxOfAll", "gpt-oss", "expert_gating_func", u(1)},
      {"SoftcappedLogits", "gemma3", "final_logit_softcapping", MetaValue(30.0)},
      {"WindowNegative", "gemma3", "attention.sliding_window", MetaValue(int64_t{-1})},
      {"PatternOfWindowsZero", "gemma3", "attention.sliding_window_pattern", u(0)},
      {"JitterNan", "phimoe", "router_jitter_noise", MetaValue(kNan)},
      {"LogitScaleNegative", "granite", "logit_scale", MetaValue(-1.0)},
      {"YarnLogMultiplier", "llama", "rope.scaling.yarn_log_multiplier", MetaValue(0.1)},
  };
}

class BadMetadata : public ::testing::TestWithParam<BadKey> {};

TEST_P(BadMetadata, IsOneErrorThatNamesTheKey) {
  const BadKey& bad = GetParam();
  const std::string arch = bad.arch, key = arch + "." + bad.key;
  Metadata m = valid_metadata(arch);
  const std::vector<RawTensor> tensors = valid_tensors(m);
  if (std::string(bad.name) == "YarnLogMultiplier")
    m.set("llama.rope.scaling.type", std::string("yarn"));
  m = bad.missing ? without(m, key) : with(m, key, bad.value);
  try {
    read_spec(m, tensors);
    FAIL() << "accepted";
  } catch (const Error& e) {
    const std::string text = e.what();
    EXPECT_NE(text.find(key), std::string::npos) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  }
}

INSTANTIATE_TEST_SUITE_P(Keys, BadMetadata, ::testing::ValuesIn(bad_keys()),
                         [](const ::testing::TestParamInfo<BadKey>& bad) {
                           return bad.param.name;
                         });

TEST(Spec, ExpertTensorsWithoutExpertCountAreRefused) {
  Metadata m = valid_metadata("llama");
  std::vector<RawTensor> tensors = valid_tensors(m);
  tensors.push_back(
      {"blk.0.ffn_gate_exps.weight", DType::kF32, {4, 48, 32}, 0, 0, 4 * 48 * 32 * 4});
  EXPECT_THROW(
      {
        try {
          read_spec(m, tensors);
        } catch (const Error& e) {
          EXPECT_NE(std::string(e.what()).find("llama.expert_count"), std::string::npos)
              << e.what();
          throw;
        }
      },
      Error);
}

TEST(Spec, EveryFamilyAcceptsItsOwnTensors) {
  for (const Family& f : family_table()) {
    const Metadata m = valid_metadata(std::string(f.arch));
    const std::vector<RawTensor> tensors = valid_tensors(m);
    EXPECT_EQ(bind_tensors(read_spec(m, tensors), tensors).size(), tensors.size()) << f.arch;
  }
}

}  // namespace
}  // namespace hob
