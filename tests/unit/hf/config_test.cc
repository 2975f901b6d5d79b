#include "hf/hf_config.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "hf/file_text.h"
#include "hf/hf_checkpoint.h"
#include "hf/hf_rope.h"
#include "hf/packing_config.h"
#include "unit/format/temp_folder.h"

namespace hob {
namespace {

std::string with(const std::string& fields) {
  return "{\"architectures\":[\"X\"]" + (fields.empty() ? "" : "," + fields) + "}";
}

template <class F>
std::string error_of(const F& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(HfConfig, LooksIntoTheLanguagePartFirstAndIntoDefaultsLast) {
  HfConfig c = HfConfig::parse(with(R"("a":1,"b":2,"n":null,"text_config":{"a":10,"m":null})"), "");
  c.set_defaults(R"({"a":100,"b":200,"c":300,"n":400})");
  EXPECT_EQ(c.architecture(), "X");
  EXPECT_EQ(c.fields().get_int("a", {0, 1000}), 10);
  EXPECT_EQ(c.fields().get_int("b", {0, 1000}), 2);
  EXPECT_EQ(c.fields().get_int("c", {0, 1000}), 300);
  EXPECT_EQ(c.fields().get_int("n", {0, 1000}), 400);
  EXPECT_FALSE(c.fields().has("m"));
}

TEST(HfConfig, ValuesHaveTheirTypeAndRange) {
  const HfConfig c =
      HfConfig::parse(with(R"("i":5,"whole":6.0,"f":1.5,"s":"x","b":true,"huge":1e30,"list":[1,"a"],
              "o":{"i":"no"},"big":18446744073709551615)"),
                      "");
  const HfFields f = c.fields();
  EXPECT_EQ(f.find_int("whole", {0, 10}), 6);
  EXPECT_EQ(f.find_int("absent", {0, 10}), std::nullopt);
  EXPECT_EQ(f.get_float("i"), 5);
  EXPECT_EQ(error_of([&] {
              f.get_int("absent", {1, 9});
            }),
            "[hf] config.json: absent: expected a whole number from 1 to 9, file has none");
  EXPECT_EQ(error_of([&] {
              f.find_int("i", {6, 9});
            }),
            "[hf] config.json: i: expected a whole number from 6 to 9, file has 5");
  for (const char* key : {"f", "s", "b", "huge", "list", "big"})
    EXPECT_NE(error_of([&] { f.find_int(key, {0, INT64_MAX}); }), "") << key;
  for (const char* key : {"s", "b", "list"})
    EXPECT_NE(error_of([&] { f.find_float(key); }), "") << key;
  EXPECT_NE(error_of([&] { f.find_float("huge", 0, 1e9); }), "");
  EXPECT_NE(error_of([&] { f.find_bool("i"); }), "");
  EXPECT_NE(error_of([&] { f.find_string("i"); }), "");
  EXPECT_NE(error_of([&] { f.find_floats("list"); }), "");
  EXPECT_NE(error_of([&] { f.find_strings("list"); }), "");
  EXPECT_NE(error_of([&] { f.find_object("i"); }), "");
  EXPECT_EQ(error_of([&] {
              f.find_object("o")->find_int("i", {0, 9});
            }),
            "[hf] config.json: o.i: expected a whole number from 0 to 9, file has \"no\"");
}

TEST(HfConfig, MustBeOneSoundObject) {
  for (const char* text :
       {"", "[]", "{", "{}", R"({"architectures":[]})", R"({"architectures":"X"})",
        R"({"architectures":[7]})", R"({"architectures":["X"],"architectures":["X"]})",
        R"({"architectures":["X"],"text_config":7})", R"({"architectures":["X"]} x)"})
    EXPECT_EQ(error_of([&] { HfConfig::parse(text, ""); }).rfind("[hf] config.json", 0), 0u)
        << text;
  EXPECT_NE(error_of([&] { HfConfig::parse(with("\"a\":" + std::string(5000, '[')), ""); }), "");
  EXPECT_EQ(
      error_of([&] { HfConfig::parse(with(""), "[]"); }).rfind("[hf] generation_config.json", 0),
      0u);
}

TEST(HfConfig, GenerationEndsWhereItsOwnFileSays) {
  using Ids = std::vector<int64_t>;
  EXPECT_EQ(HfConfig::parse(with(R"("eos_token_id":2)"), "").eos_ids(), Ids{2});
  EXPECT_EQ(HfConfig::parse(with(R"("eos_token_id":2)"), R"({"eos_token_id":[3,4]})").eos_ids(),
            (Ids{3, 4}));
  EXPECT_EQ(HfConfig::parse(with(R"("eos_token_id":2)"), R"({"eos_token_id":null})").eos_ids(),
            Ids{2});
  EXPECT_EQ(HfConfig::parse(with(""), "").eos_ids(), Ids{});
  EXPECT_EQ(HfConfig::parse(with(R"("bos_token_id":1)"), "").bos_id(), 1);
  EXPECT_EQ(HfConfig::parse(with(""), "").bos_id(), std::nullopt);
  for (const char* bad : {"-1", "\"2\"", "[1,-2]", "1.5", "{}", "99999999999"})
    EXPECT_NE(error_of([&] {
                HfConfig::parse(with(fmt::format("\"eos_token_id\":{}", bad)), "").eos_ids();
              }),
              "")
        << bad;
}

TEST(HfConfig, IsReadFromAFolder) {
  const TempFolder folder;
  EXPECT_NE(error_of([&] { HfConfig::open(folder.path()); }).find("config.json: cannot open"),
            std::string::npos);
  folder.write("config.json", with(R"("eos_token_id":2)"));
  EXPECT_EQ(HfConfig::open(folder.path()).eos_ids().front(), 2);
  folder.write("generation_config.json", R"({"eos_token_id":5})");
  EXPECT_EQ(HfConfig::open(folder.path()).eos_ids().front(), 5);
}

TEST(HfConfigCorpus, EveryFileIsAFamilysConfig) {
  size_t n_files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(HOB_TEST_DATA "/hf_config/corpus")) {
    n_files++;
    const std::string all = read_small_file(entry.path(), 1 << 20);
    const size_t cut = all.find("\n---\n");
    const std::string generation = cut == all.npos ? "" : all.substr(cut + 5);
    EXPECT_EQ(error_of([&] {
                HfConfig c = HfConfig::parse(all.substr(0, cut), generation);
                const HfFamily& family = find_hf_family(c.architecture());
                c.set_defaults(family.defaults);
                hf_metadata(c, family, "corpus");
                family.rules(read_geometry(c.fields()));
                rope_tensors(c.fields());
                if (const auto q = c.fields().find_object("quantization_config")) read_packing(*q);
              }),
              "")
        << entry.path();
  }
  EXPECT_GE(n_files, 13u);
}

// Keys of a Llama with this rotation.
Metadata rope_metadata(const std::string& fields) {
  const HfConfig c = HfConfig::parse(with(R"("num_attention_heads":2,"hidden_size":16,
      "max_position_embeddings":131072,)" +
                                          fields),
                                     "");
  Metadata m;
  HfKeys keys(m, "x");
  rope_keys(c.fields(), keys);
  return m;
}

TEST(HfRope, BothSpellingsGiveTheSameKeys) {
  const Metadata four = rope_metadata(
      R"("rope_theta":5e5,"rope_scaling":{"type":"yarn","factor":4.0,"beta_fast":32,
         "original_max_position_embeddings":32768})");
  const Metadata five = rope_metadata(
      R"("rope_parameters":{"rope_type":"yarn","rope_theta":500000,"factor":4,"beta_fast":32,
         "original_max_position_embeddings":32768})");
  EXPECT_EQ(four.entries(), five.entries());
  EXPECT_EQ(four.get_string("x.rope.scaling.type"), "yarn");
  EXPECT_EQ(four.get_float("x.rope.freq_base"), 5e5);
  EXPECT_EQ(four.get_uint("x.rope.scaling.original_context_length"), 32768u);
  const Metadata two_kinds = rope_metadata(
      R"("rope_parameters":{"full_attention":{"rope_type":"linear","factor":8,"rope_theta":1e6},
         "sliding_attention":{"rope_type":"default","rope_theta":1e4}})");
  EXPECT_EQ(two_kinds.get_float("x.rope.freq_base_swa"), 1e4);
  EXPECT_EQ(two_kinds.get_float("x.rope.scaling.factor"), 8);
}

TEST(HfRope, DeepSeeksYarnHasALogMultiplier) {
  const std::string yarn = R"("rope_scaling":{"type":"yarn","factor":40,"mscale":0.707,
      "mscale_all_dim":%,"original_max_position_embeddings":4096})";
  const auto with_scale = [&](const std::string& x) {
    return std::string(yarn).replace(yarn.find('%'), 1, x);
  };
  EXPECT_NEAR(rope_metadata(with_scale("0.707")).get_float("x.rope.scaling.yarn_log_multiplier"),
              0.0707, 1e-9);
  EXPECT_FALSE(rope_metadata(with_scale("0.707")).has("x.rope.scaling.yarn_mscale"));
  EXPECT_EQ(rope_metadata(with_scale("1.0")).get_float("x.rope.scaling.yarn_mscale"), 0.707);
}

TEST(HfRope, RefusesWhatItCannotExpress) {
  for (const char* bad :
       {R"("rope_scaling":{"type":"dynamic","factor":2})", R"("rope_scaling":{"type":"linear"})",
        R"("rope_scaling":{"type":"linear","factor":0})", R"("rope_scaling":7)",
        R"("rope_scaling":{"type":"yarn","factor":4})", R"("rope_theta":0)", R"("rope_theta":"1")",
        R"("rope_scaling":{"type":"yarn","factor":4,"original_max_position_embeddings":9,
           "attention_factor":2})"})
    EXPECT_EQ(error_of([&] { rope_metadata(bad); }).rfind("[hf] config.json: rope_", 0), 0u) << bad;
}

TEST(HfRope, LongContextFactorsAreTensors) {
  const std::string rope =
      R"("num_attention_heads":2,"hidden_size":16,"max_position_embeddings":131072,
      "original_max_position_embeddings":4096,
      "rope_scaling":{"type":"su","long_factor":[1,2,3,%],"short_factor":[1,1,1,1.5]})";
  const auto tensors = [&](const std::string& last) {
    const HfConfig c =
        HfConfig::parse(with(std::string(rope).replace(rope.find('%'), 1, last)), "");
    return rope_tensors(c.fields());
  };
  const std::vector<HfComputed> t = tensors("4");
  ASSERT_EQ(t.size(), 2u);
  EXPECT_EQ(t[0].name, "rope_factors_long.weight");
  EXPECT_EQ(t[0].values, (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(t[1].values.back(), 1.5f);
  EXPECT_NE(error_of([&] { tensors("4,5"); }), "");
  EXPECT_NE(error_of([&] { tensors("\"4\""); }), "");
  const Metadata m = rope_metadata(R"("original_max_position_embeddings":4096,
      "rope_scaling":{"type":"longrope"})");
  EXPECT_NEAR(m.get_float("x.rope.scaling.attn_factor"), 1.1902380714238083, 1e-12);
  EXPECT_FALSE(m.has("x.rope.scaling.attn_factor_long"));
  const Metadata own = rope_metadata(R"("original_max_position_embeddings":4096,
      "rope_scaling":{"type":"longrope","long_mscale":1.3,"short_mscale":1.1})");
  EXPECT_EQ(own.get_float("x.rope.scaling.attn_factor"), 1.1);
  EXPECT_EQ(own.get_float("x.rope.scaling.attn_factor_long"), 1.3);
}

// Llama 3.1 8B: values from the formula of transformers, computed in Python.
TEST(HfRope, Llama3SlowsLongWaves) {
  const HfConfig c =
      HfConfig::parse(with(R"("num_attention_heads":32,"hidden_size":4096,"rope_theta":500000.0,
              "rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,
              "high_freq_factor":4.0,"original_max_position_embeddings":8192})"),
                      "");
  const std::vector<HfComputed> t = rope_tensors(c.fields());
  ASSERT_EQ(t.size(), 1u);
  ASSERT_EQ(t[0].values.size(), 64u);
  EXPECT_EQ(t[0].values[0], 1.f);
  EXPECT_EQ(t[0].values[28], 1.f);
  EXPECT_NEAR(t[0].values[30], 1.5534146f, 1e-5);
  EXPECT_NEAR(t[0].values[34], 5.257327f, 1e-5);
  EXPECT_EQ(t[0].values[35], 8.f);
  EXPECT_EQ(t[0].values[63], 8.f);
}

}  // namespace
}  // namespace hob
