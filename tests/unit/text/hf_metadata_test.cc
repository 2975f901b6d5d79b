// What add_hf_tokenizer() writes for a GGUF file.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "text/hf/gguf_family.h"
#include "unit/text/hf_util.h"

namespace hob {
namespace {

using nlohmann::json;
using testing_text::hf_json;
using testing_text::HfFolder;
using testing_text::HfParts;
using testing_text::read_text;

std::string golden(const std::string& name) {
  return read_text(HOB_TEST_DATA "/hf_tokenizer/" + name + ".json");
}

Metadata metadata_of(const std::string& text) {
  const HfFolder folder;
  folder.write("tokenizer.json", text);
  return folder.metadata();
}

TEST(HfMetadata, ByteLevelBpe) {
  const Metadata metadata = metadata_of(hf_json());
  EXPECT_EQ(metadata.get_string("tokenizer.ggml.model"), "gpt2");
  EXPECT_EQ(metadata.get_string("tokenizer.ggml.pre"), "gpt-2");
  EXPECT_EQ(metadata.find_strings("tokenizer.ggml.tokens")->at(256), "ab");
  EXPECT_EQ(metadata.find_ints("tokenizer.ggml.token_type")->at(257), 3);
  EXPECT_EQ(*metadata.find_strings("tokenizer.ggml.merges"), std::vector<std::string>{"a b"});
  EXPECT_FALSE(metadata.has(kHfTokenizerKey));
  EXPECT_FALSE(metadata.has("tokenizer.ggml.scores"));
}

TEST(HfMetadata, FamiliesHaveGgufsNames) {
  for (const auto& [kind, model] : {std::pair{"llama3", "gpt2"},
                                    {"spm_bpe", "llama"},
                                    {"unigram", "t5"},
                                    {"wordpiece", "bert"}}) {
    const Metadata metadata = metadata_of(golden(kind));
    EXPECT_EQ(metadata.get_string("tokenizer.ggml.model"), model) << kind;
    const size_t n = metadata.find_strings("tokenizer.ggml.tokens")->size();
    EXPECT_EQ(metadata.find_ints("tokenizer.ggml.token_type")->size(), n) << kind;
    if (std::string(model) == "llama" || std::string(model) == "t5") {
      EXPECT_EQ(metadata.find_floats("tokenizer.ggml.scores")->size(), n) << kind;
    }
  }
}

TEST(HfMetadata, SentencePieceScoresComeFromTheMerges) {
  const std::string text = R"({"model": {"type": "BPE", "byte_fallback": true, "unk_token": "<unk>",
      "fuse_unk": true, "vocab": {"<unk>": 0, "<0x0A>": 1, "▁": 2, "a": 3, "b": 4, "ab": 5, "▁a": 6},
      "merges": [["a", "b"], ["▁", "a"]]},
      "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}})";
  const Metadata metadata = metadata_of(text);
  EXPECT_EQ(metadata.get_string("tokenizer.ggml.model"), "llama");
  EXPECT_EQ(metadata.get_string("tokenizer.ggml.pre"), "default");
  EXPECT_EQ(*metadata.find_floats("tokenizer.ggml.scores"),
            (std::vector<double>{0, 0, 0, 0, 0, -1, -2}));
  EXPECT_EQ(*metadata.find_ints("tokenizer.ggml.token_type"),
            (std::vector<int64_t>{2, 6, 1, 1, 1, 1, 1}));
  EXPECT_EQ(metadata.find_bool("tokenizer.ggml.add_space_prefix"), true);
  EXPECT_FALSE(metadata.has(kHfTokenizerKey));
  const auto tokenizer = Tokenizer::from_gguf(metadata);
  EXPECT_EQ(tokenizer->encode("ab a\n", {.add_special = false}),
            (std::vector<TokenId>{2, 5, 6, 1}));
  // Were "aa" a token that no merge makes, SentencePiece would make it all the same.
  std::string other = text;
  other.replace(other.find("\"▁a\": 6"), 9, "\"▁a\": 6, \"aa\": 7");
  EXPECT_TRUE(metadata_of(other).has(kHfTokenizerKey));
}

TEST(HfMetadata, WordPieceMarksBeginnings) {
  const Metadata metadata = metadata_of(
      R"({"model": {"type": "WordPiece", "vocab": {"[UNK]": 0, "[CLS]": 1, "hello": 2, "##s": 3}},
          "added_tokens": [{"id": 1, "content": "[CLS]", "special": true, "lstrip": false,
            "rstrip": false, "single_word": false, "normalized": false}]})");
  EXPECT_EQ(*metadata.find_strings("tokenizer.ggml.tokens"),
            (std::vector<std::string>{"[UNK]", "[CLS]", "▁hello", "s"}));
  const auto tokenizer = Tokenizer::from_gguf(metadata);
  EXPECT_EQ(tokenizer->find("hello"), 2);  // the JSON's texts count for hob
}

std::string split(const std::string& regex) {
  return json({{"type", "Split"},
               {"pattern", {{"Regex", regex}}},
               {"behavior", "Isolated"},
               {"invert", false}})
      .dump();
}

std::string pre_of(const std::vector<std::string>& steps, HfParts parts = {}) {
  std::string all;
  for (const std::string& step : steps) all += step + ", ";
  parts.pre_tokenizer = R"({"type": "Sequence", "pretokenizers": [)" + all +
                        R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})";
  const json root = json::parse(hf_json(parts));
  return hf::pre_name(hf::Node(root, ""));
}

TEST(HfMetadata, PreTokenizersAreKnownByTheirRegexes) {
  const std::string tail = R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const std::string words = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)";
  const std::string llama3 = words + R"(\p{N}{1,3})" + tail;
  EXPECT_EQ(pre_of({split(llama3)}), "dbrx");
  EXPECT_EQ(pre_of({split(llama3)}, {.model_options = "\"ignore_merges\": true, "}), "llama-bpe");
  EXPECT_EQ(pre_of({split(words + R"(\p{N})" + tail)}), "qwen2");
  EXPECT_EQ(pre_of({split(words + R"(\p{N})" + tail)}, {.normalizer = R"({"type": "NFC"})"}),
            "qwen2");
  EXPECT_EQ(pre_of({split(words + R"(\p{N})" + tail)}, {.normalizer = R"({"type": "Lowercase"})"}),
            "");
  // The line breaks as themselves.
  std::string raw = llama3;
  for (const auto& [from, to] : {std::pair{"\\r", "\r"}, {"\\n", "\n"}}) {
    for (size_t i = raw.find(from); i != std::string::npos; i = raw.find(from))
      raw.replace(i, 2, to);
  }
  EXPECT_EQ(pre_of({split(raw)}), "dbrx");
  EXPECT_EQ(pre_of({split(R"(\p{N}{1,3})"), split("[一-龥぀-ゟ゠-ヿ]+"),
                    split("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}"
                          "\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|"
                          "\\s+(?!\\S)|\\s+")}),
            "deepseek-v3");
  EXPECT_EQ(pre_of({split(words + R"(\p{N}{1,2})" + tail)}), "");
  EXPECT_EQ(pre_of({split(llama3), R"({"type": "Digits", "individual_digits": true})"}), "");
  const json gpt2 = json::parse(hf_json());
  EXPECT_EQ(hf::pre_name(hf::Node(gpt2, "")), "gpt-2");
}

TEST(HfMetadata, AnUnknownPreTokenizerKeepsTheJson) {
  const std::string text =
      hf_json({.pre_tokenizer = R"({"type": "Sequence", "pretokenizers": [)" + split("[aeiou]+") +
                                R"(, {"type": "ByteLevel", "add_prefix_space": false,
                                         "use_regex": false}]})"});
  Metadata metadata = metadata_of(text);
  EXPECT_EQ(metadata.get_string("tokenizer.ggml.model"), "gpt2");
  EXPECT_FALSE(metadata.has("tokenizer.ggml.pre"));
  EXPECT_EQ(metadata.get_string(kHfTokenizerKey), text);
  EXPECT_TRUE(wants_hf_tokenizer(metadata));
  metadata.set("tokenizer.ggml.pre", std::string("brand-new"));
  EXPECT_TRUE(wants_hf_tokenizer(metadata));
  EXPECT_NO_THROW(Tokenizer::from_gguf(metadata));
  metadata.set("tokenizer.ggml.pre", std::string("qwen2"));
  EXPECT_FALSE(wants_hf_tokenizer(metadata));
}

TEST(HfMetadata, SpecialIdsAndEnds) {
  const HfFolder folder;
  folder.write("tokenizer.json",
               hf_json({.more = R"(["ab", "<s>", "</s>", "<|turn|>", "<|eom|>", "<pad>"])"}));
  folder.write("tokenizer_config.json",
               R"({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "unk_token": null,
                   "pad_token": "<nowhere>", "add_bos_token": true})");
  folder.write("special_tokens_map.json", R"({"pad_token": "<pad>", "eos_token": "<s>"})");
  folder.write("generation_config.json", R"({"eos_token_id": [258, 260, 259]})");
  const Metadata metadata = folder.metadata();
  EXPECT_EQ(metadata.get_uint("tokenizer.ggml.bos_token_id"), 257u);
  EXPECT_EQ(metadata.get_uint("tokenizer.ggml.eos_token_id"), 258u);
  EXPECT_EQ(metadata.get_uint("tokenizer.ggml.eot_token_id"), 259u);
  EXPECT_EQ(metadata.get_uint("tokenizer.ggml.eom_token_id"), 260u);
  EXPECT_EQ(metadata.get_uint("tokenizer.ggml.padding_token_id"), 261u);
  EXPECT_FALSE(metadata.has("tokenizer.ggml.unknown_token_id"));
  EXPECT_EQ(metadata.find_bool("tokenizer.ggml.add_bos_token"), true);
  EXPECT_EQ(metadata.find_bool("tokenizer.ggml.add_eos_token"), false);
  for (const bool for_file : {true, false}) {
    const auto tokenizer = Tokenizer::from_gguf(folder.metadata({.for_file = for_file}));
    EXPECT_EQ(tokenizer->encode("ab", {}), (std::vector<TokenId>{257, 256}));
    EXPECT_TRUE(tokenizer->adds_bos());
    EXPECT_TRUE(tokenizer->is_end(258));
    EXPECT_TRUE(tokenizer->is_end(259));
    EXPECT_TRUE(tokenizer->is_end(260));
    EXPECT_FALSE(tokenizer->is_end(257));
  }
}

TEST(HfMetadata, ThePostProcessorSaysWhatIsAdded) {
  const HfFolder folder;
  const std::string both = R"({"type": "TemplateProcessing", "single": [
      {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
      {"SpecialToken": {"id": "</s>", "type_id": 0}}], "special_tokens": {
      "<s>": {"id": "<s>", "ids": [257], "tokens": ["<s>"]},
      "</s>": {"id": "</s>", "ids": [258], "tokens": ["</s>"]}}})";
  folder.write("tokenizer.json", hf_json({.post_processor = both}));
  for (const bool for_file : {true, false}) {
    const auto tokenizer = Tokenizer::from_gguf(folder.metadata({.for_file = for_file}));
    EXPECT_EQ(tokenizer->encode("ab", {}), (std::vector<TokenId>{257, 256, 258}));
    EXPECT_EQ(tokenizer->encode("ab", {.add_special = false}), std::vector<TokenId>{256});
    EXPECT_EQ(tokenizer->bos(), 257);
  }
  folder.write("tokenizer_config.json", R"({"add_bos_token": false, "add_eos_token": false})");
  for (const bool for_file : {true, false}) {
    const auto tokenizer = Tokenizer::from_gguf(folder.metadata({.for_file = for_file}));
    EXPECT_EQ(tokenizer->encode("ab", {}), std::vector<TokenId>{256});
    EXPECT_FALSE(tokenizer->adds_bos());
  }
}

TEST(HfMetadata, ChatTemplates) {
  const HfFolder folder;
  folder.write("tokenizer.json", hf_json());
  EXPECT_FALSE(folder.metadata().has("tokenizer.chat_template"));
  folder.write("chat_template.json", R"({"chat_template": "from json"})");
  EXPECT_EQ(folder.metadata().get_string("tokenizer.chat_template"), "from json");
  folder.write("chat_template.jinja", "from jinja");
  EXPECT_EQ(folder.metadata().get_string("tokenizer.chat_template"), "from jinja");
  folder.write("tokenizer_config.json", R"({"chat_template": "from config"})");
  EXPECT_EQ(folder.metadata().get_string("tokenizer.chat_template"), "from config");
  folder.write("tokenizer_config.json",
               R"({"chat_template": [{"name": "default", "template": "d"},
                                     {"name": "tool_use", "template": "t"}]})");
  const Metadata metadata = folder.metadata();
  EXPECT_EQ(metadata.get_string("tokenizer.chat_template"), "d");
  EXPECT_EQ(metadata.get_string("tokenizer.chat_template.tool_use"), "t");
  EXPECT_EQ(*metadata.find_strings("tokenizer.chat_templates"),
            std::vector<std::string>{"tool_use"});
}

}  // namespace
}  // namespace hob
