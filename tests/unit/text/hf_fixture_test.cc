// Published GGUF vocabularies written as tokenizer.json: both readers must agree, on the texts that
// come with them and on random ones. tests/data has two; see fixture_test.cc for more.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>

#include "format/gguf.h"
#include "text/unicode.h"
#include "unit/text/hf_util.h"

namespace hob {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing_text::read_text;

constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

json split_at(const std::string& regex) {
  return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}};
}

json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", use_regex}};
}

json sequence(std::vector<json> steps) {
  return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

json pre_tokenizer_of(const std::string& pre) {
  if (pre == "gpt-2") return byte_level(true);
  if (pre == "llama-bpe") return sequence({split_at(kLlama3), byte_level(false)});
  if (pre == "qwen2") return sequence({split_at(kQwen2), byte_level(false)});
  if (pre != "deepseek-llm") return nullptr;
  // The published class of letters lists the cased ones range by range.
  return sequence({split_at(R"([\r\n])"), split_at(R"(\s?[\p{Lu}\p{Ll}\p{Lt}]+)"),
                   split_at(R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)"), split_at(R"(\s+$)"),
                   split_at("[一-龥ࠀ-一가-퟿]+"), split_at(R"(\p{N}+)"), byte_level(false)});
}

json added_tokens(const Metadata& metadata, bool phi3) {
  const auto& tokens = *metadata.find_strings("tokenizer.ggml.tokens");
  const auto& types = *metadata.find_ints("tokenizer.ggml.token_type");
  json added = json::array();
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (types[i] != 2 && types[i] != 3 && types[i] != 4) continue;
    const bool strips =
        phi3 && tokens[i] != "<unk>" && tokens[i] != "<s>" && tokens[i] != "<|endoftext|>";
    added.push_back({{"id", i},
                     {"content", tokens[i]},
                     {"special", types[i] != 4},
                     {"lstrip", false},
                     {"rstrip", strips},
                     {"single_word", false},
                     {"normalized", false}});
  }
  return added;
}

// SentencePiece's scores as merges: every cut of a token into two, best token first.
json merges_of(const Metadata& metadata) {
  const auto& tokens = *metadata.find_strings("tokenizer.ggml.tokens");
  const auto& types = *metadata.find_ints("tokenizer.ggml.token_type");
  const auto& scores = *metadata.find_floats("tokenizer.ggml.scores");
  std::map<std::string, size_t> ids;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (types[i] == 1) ids.emplace(tokens[i], i);
  }
  std::vector<std::pair<size_t, json>> merges;
  for (const auto& [text, id] : ids) {
    for (size_t cut = 1; cut < text.size(); ++cut) {
      if ((static_cast<uint8_t>(text[cut]) & 0xC0) == 0x80) continue;
      const std::string left = text.substr(0, cut), right = text.substr(cut);
      if (ids.contains(left) && ids.contains(right)) merges.push_back({id, {left, right}});
    }
  }
  std::stable_sort(merges.begin(), merges.end(),
                   [&](const auto& a, const auto& b) { return scores[a.first] > scores[b.first]; });
  json list = json::array();
  for (auto& [id, pair] : merges) list.push_back(std::move(pair));
  return list;
}

std::string json_of(const Metadata& metadata) {
  const bool spm = metadata.get_string("tokenizer.ggml.model") == "llama";
  const auto& tokens = *metadata.find_strings("tokenizer.ggml.tokens");
  json vocab = json::object();
  for (size_t i = 0; i < tokens.size(); ++i) vocab[tokens[i]] = i;
  const std::string name = metadata.find_string("general.name").value_or("");
  json root = {{"added_tokens", added_tokens(metadata, name.find("hi") != std::string::npos)},
               {"model", {{"type", "BPE"}, {"vocab", std::move(vocab)}}}};
  if (spm) {
    root["model"].update({{"merges", merges_of(metadata)},
                          {"unk_token", "<unk>"},
                          {"fuse_unk", true},
                          {"byte_fallback", true}});
    const json mark = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}};
    const json front = {{"type", "Prepend"}, {"prepend", "▁"}};
    root["normalizer"] = {{"type", "Sequence"}, {"normalizers", {front, mark}}};
    const json back = {{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}};
    const json strip = {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}};
    root["decoder"] = {{"type", "Sequence"},
                       {"decoders", {back, {{"type", "ByteFallback"}}, {{"type", "Fuse"}}, strip}}};
    return root.dump();
  }
  const std::string pre = metadata.find_string("tokenizer.ggml.pre").value_or("");
  root["model"]["merges"] = *metadata.find_strings("tokenizer.ggml.merges");
  root["model"]["ignore_merges"] = pre == "llama-bpe";
  root["pre_tokenizer"] = pre_tokenizer_of(pre);
  root["decoder"] = {{"type", "ByteLevel"}};
  return root.dump();
}

std::string random_text(std::mt19937& rng, bool ascii) {
  static const std::vector<std::string> kBits = {" ",
                                                 "  ",
                                                 "\n",
                                                 "\r\n",
                                                 "\t",
                                                 "'s",
                                                 "'LL",
                                                 "12",
                                                 "3456",
                                                 "the",
                                                 " and",
                                                 "Über",
                                                 "...",
                                                 "<s>",
                                                 "日本",
                                                 "한국",
                                                 "🙂",
                                                 "e\u0301",
                                                 "<|endoftext|>",
                                                 "\u00a0",
                                                 "\u3000",
                                                 "\xFF",
                                                 "\xE2\x82",
                                                 "x_y"};
  std::string text;
  const size_t n = rng() % 12;
  for (size_t i = 0; i < n; ++i) {
    const size_t what = rng() % 3;
    if (what == 0) {
      text += kBits[rng() % kBits.size()];
    } else if (what == 1 || ascii) {
      text.push_back(static_cast<char>(' ' + rng() % 95));
    } else {
      append_utf8(0xA0 + rng() % 0x3000, text);
    }
  }
  return text;
}

std::vector<std::string> vocabularies() {
  std::vector<std::string> paths;
  const char* from_env = std::getenv("HOB_FIXTURES");
  const fs::path fixtures = from_env != nullptr ? from_env : HOB_SOURCE_DIR "/../shared/fixtures";
  for (const fs::path& folder : {fs::path(HOB_TEST_DATA "/text"), fixtures / "tokenizers"}) {
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(folder, none)) {
      if (entry.path().extension() == ".gguf" && fs::exists(entry.path().string() + ".inp"))
        paths.push_back(entry.path().string());
    }
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

class HfFixture : public testing::TestWithParam<std::string> {};

TEST_P(HfFixture, AgreesWithTheGgufReader) {
  Metadata metadata = open_gguf(GetParam()).metadata();
  const std::string pre = metadata.find_string("tokenizer.ggml.pre").value_or("");
  const auto expected = Tokenizer::from_gguf(metadata);
  const std::string json_text = json_of(metadata);
  metadata.set(kHfTokenizerKey, json_text);
  // What the family's reader takes for granted.
  if (expected->bos() >= 0)
    metadata.set("tokenizer.ggml.bos_token_id", static_cast<uint64_t>(expected->bos()));
  metadata.set("tokenizer.ggml.add_bos_token", expected->adds_bos());
  metadata.erase("tokenizer.ggml.pre");
  const auto tokenizer = Tokenizer::from_gguf(metadata);
  ASSERT_EQ(tokenizer->n_vocab(), expected->n_vocab());
  EXPECT_EQ(tokenizer->adds_bos(), expected->adds_bos());

  std::vector<std::string> texts;
  const std::string inp = read_text(GetParam() + ".inp");
  constexpr std::string_view kSeparator = "\n__ggml_vocab_test__\n";
  for (size_t begin = 0, end; (end = inp.find(kSeparator, begin)) != std::string::npos;
       begin = end + kSeparator.size())
    texts.push_back(inp.substr(begin, end - begin));
  EXPECT_FALSE(texts.empty());
  std::mt19937 rng(7);
  const bool spm = metadata.get_string("tokenizer.ggml.model") == "llama";
  for (int i = 0; i < 1000; ++i) texts.push_back(random_text(rng, pre == "deepseek-llm"));
  for (const std::string& text : texts) {
    for (const bool parse : {true, false}) {
      const EncodeOptions options{.add_special = true, .parse_special = parse};
      const auto ids = tokenizer->encode(text, options);
      EXPECT_EQ(ids, expected->encode(text, options)) << parse << ' ' << text;
      if (!spm || !parse) {
        EXPECT_EQ(tokenizer->decode(ids, false), expected->decode(ids, false));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, HfFixture, testing::ValuesIn(vocabularies()),
                         [](const auto& test) {
                           const fs::path path = test.param;
                           std::string name =
                               path.parent_path().filename().string() + "_" + path.stem().string();
                           for (char& c : name)
                             if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
                           return name;
                         });

}  // namespace
}  // namespace hob
