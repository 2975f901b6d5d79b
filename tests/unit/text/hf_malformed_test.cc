// tokenizer.json files that are broken or contradict themselves: one clear Error, or a defined
// meaning; never a crash. The list: research notes, serving §5.2, item 14 and the file part of 1.
#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "unit/text/hf_util.h"

namespace hob {
namespace {

using testing_text::hf_json;
using testing_text::HfFolder;
using testing_text::HfParts;

std::string error_of(const std::string& json) {
  const HfFolder folder;
  folder.write("tokenizer.json", json);
  return folder.error();
}

#define EXPECT_ERROR(json, part) \
  EXPECT_NE(error_of(json).find(part), std::string::npos) << "error: \"" << error_of(json) << '"'

std::string model(const std::string& json) { return "{\"model\": " + json + "}"; }

std::string unigram(const std::string& vocab, const std::string& more = "") {
  return model(R"({"type": "Unigram", "vocab": )" + vocab + more + "}");
}

TEST(HfMalformed, TheSmallestFileIsRead) {
  EXPECT_EQ(error_of(hf_json()), "");
  EXPECT_EQ(error_of(model(R"({"type": "BPE", "vocab": {"a": 0}, "merges": []})")), "");
}

TEST(HfMalformed, FilesThatAreNone) {
  const HfFolder folder;
  EXPECT_NE(folder.error().find("expected tokenizer.json"), std::string::npos);
  std::filesystem::create_directory(folder.path() + "/tokenizer.json");
  EXPECT_NE(folder.error().find("expected a file"), std::string::npos);
  std::filesystem::remove(folder.path() + "/tokenizer.json");
  std::filesystem::create_symlink("tokenizer.json", folder.path() + "/tokenizer.json");
  EXPECT_NE(folder.error(), "");
}

TEST(HfMalformed, TextThatIsNoJson) {
  const std::string good = hf_json();
  for (const std::string& text :
       {std::string(), std::string("["), std::string("null"), std::string("[]"), std::string("7"),
        std::string("\"x\""), good + "x", good + good, "\xFF" + good,
        std::string("{\"a\": \"\xFF\"}"), std::string("{\"a\": \"\\ud800\"}"),
        std::string("{\"model\": NaN}"), std::string("{a: 1}"), std::string("{\"a\": 1e999}"),
        std::string("{\"a\": 1,}"), std::string("{\"a\": \"\0\"}", 10)}) {
    EXPECT_ERROR(text, "[tokenizer] tokenizer.json: expected one JSON object");
  }
  for (size_t size = 0; size < good.size(); size += 1 + size / 7)
    EXPECT_NE(error_of(good.substr(0, size)), "") << size;
}

TEST(HfMalformed, DuplicateKeysAndDepth) {
  EXPECT_ERROR(R"({"model": {}, "model": {}})", "it has the key \"model\" twice");
  EXPECT_ERROR(model(R"({"type": "BPE", "vocab": {"a": 0, "a": 1}, "merges": []})"), "\"a\"");
  EXPECT_ERROR("{\"a\": " + std::string(100'000, '[') + "}", "nested more than");
  std::string deep = "null";
  for (int i = 0; i < 100; ++i) deep = R"({"type":"Sequence","normalizers":[)" + deep + "]}";
  EXPECT_ERROR(hf_json({.normalizer = deep}), "nested more than");
}

TEST(HfMalformed, UnknownKindsAreNamed) {
  EXPECT_ERROR(model(R"({"type": "Oracle", "vocab": {}})"), "\"Oracle\"");
  EXPECT_ERROR(hf_json({.normalizer = R"({"type": "Rot13"})"}),
               "normalizer: expected a normalizer");
  EXPECT_ERROR(hf_json({.normalizer = R"({"type": "Rot13"})"}), "\"Rot13\"");
  EXPECT_ERROR(hf_json({.pre_tokenizer = R"({"type": "UnicodeScripts"})"}), "\"UnicodeScripts\"");
  EXPECT_ERROR(hf_json({.post_processor = R"({"type": "Shuffle"})"}), "\"Shuffle\"");
  EXPECT_ERROR(hf_json({.decoder = R"({"type": "CTC"})"}), "\"CTC\"");
  EXPECT_ERROR(hf_json({.pre_tokenizer = R"({"type": "Sequence", "pretokenizers": [null]})"}),
               "pre_tokenizer.pretokenizers[0]: expected an object");
  EXPECT_ERROR(hf_json({.normalizer = R"({"type": 3})"}), "normalizer.type: expected a text");
  EXPECT_ERROR(hf_json({.normalizer = "[]"}), "normalizer: expected an object");
}

TEST(HfMalformed, StepsWithBadFields) {
  EXPECT_ERROR(hf_json({.normalizer = R"({"type": "Replace", "content": "x"})"}), "pattern");
  EXPECT_ERROR(
      hf_json({.normalizer = R"({"type": "Replace", "pattern": {"Regex": "("}, "content": "x"})"}),
      "normalizer.pattern");
  EXPECT_ERROR(hf_json({.normalizer = R"({"type": "Strip", "strip_left": 1, "strip_right": 0})"}),
               "expected true or false");
  EXPECT_ERROR(hf_json({.normalizer = R"({"type": "Precompiled", "precompiled_charsmap": "!"})"}),
               "base64");
  for (const char* map : {"", "AAAA", "////////", "CAAAAAAAAAA=", "BQAAAAAAAAAA"}) {
    EXPECT_ERROR(hf_json({.normalizer = std::string(R"({"type": "Precompiled",
                         "precompiled_charsmap": ")") +
                                        map + "\"}"}),
                 "expected a trie")
        << map;
  }
  EXPECT_ERROR(hf_json({.pre_tokenizer = R"({"type": "Split", "pattern": {"String": "a"},
                                            "behavior": "Gone", "invert": false})"}),
               "expected one of Removed");
  EXPECT_ERROR(hf_json({.pre_tokenizer = R"({"type": "Metaspace", "replacement": "ab"})"}),
               "expected one character");
  EXPECT_ERROR(hf_json({.decoder = R"({"type": "Strip", "content": "", "start": 1, "stop": 0})"}),
               "expected one character");
}

// Every unit of the trie points somewhere: out of it, into itself, to replacements without an end.
TEST(HfMalformed, TriesThatLeadNowhere) {
  const HfFolder folder;
  for (const char* map :
       {"BAAAAP////8=", "BAAAAAAAAAA=", "CAAAAAAEAAABAACA", "EAAAAAAEAABhBAAAYQUAAP///39h"}) {
    folder.write("tokenizer.json", hf_json({.normalizer = std::string(R"({"type": "Precompiled",
                         "precompiled_charsmap": ")") + map +
                                                          "\"}"}));
    ASSERT_EQ(folder.error(), "") << map;
    const auto tokenizer = Tokenizer::from_gguf(folder.metadata());
    EXPECT_NO_THROW(tokenizer->encode("abc \xFF\u00e9", {}));
  }
}

// §5.2 item 14: token ids out of range for bos/eos.
TEST(HfMalformed, SpecialIdsOutOfRange) {
  for (const char* file : {"generation_config.json", "config.json"}) {
    for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
      for (const char* id : {"259", "-2", "4294967295", "1e3", "\"2\"", "[257, 900]", "1.5"}) {
        const HfFolder folder;
        folder.write("tokenizer.json", hf_json());
        folder.write(file, std::string("{\"") + key + "\": " + id + "}");
        EXPECT_NE(folder.error().find(std::string(file) + "." + key), std::string::npos)
            << file << ' ' << key << ' ' << id << ": " << folder.error();
      }
    }
  }
  EXPECT_ERROR(hf_json({.added = R"([{"id": 99999999, "content": "x", "special": true,
                        "lstrip": false, "rstrip": false, "single_word": false,
                        "normalized": false}])"}),
               "expected an id below");
  EXPECT_ERROR(hf_json({.post_processor = R"({"type": "BertProcessing", "sep": ["a", 900],
                                             "cls": ["b", 1]})"}),
               "expected ids below 259");
  EXPECT_ERROR(hf_json({.post_processor = R"({"type": "TemplateProcessing",
                        "single": [{"SpecialToken": {"id": "s"}}, {"Sequence": {"id": "A"}}],
                        "special_tokens": {"s": {"id": "s", "ids": [-1], "tokens": ["s"]}}})"}),
               "expected ids below 259");
}

TEST(HfMalformed, SpecialTokensThatAreNone) {
  const HfFolder folder;
  folder.write("tokenizer.json", hf_json());
  folder.write("tokenizer_config.json", R"({"eos_token": "<nowhere>"})");
  EXPECT_NE(folder.error().find("tokenizer_config.json.eos_token"), std::string::npos);
  folder.write("tokenizer_config.json", R"({"eos_token": {"content": 7}})");
  EXPECT_NE(folder.error().find("content: expected a text"), std::string::npos);
  folder.write("tokenizer_config.json", R"({"chat_template": 7})");
  EXPECT_NE(folder.error().find("chat_template"), std::string::npos);
  folder.write("tokenizer_config.json", "{");
  EXPECT_NE(folder.error().find("tokenizer_config.json"), std::string::npos);
}

// §5.2 item 14: duplicate tokens.
TEST(HfMalformed, DuplicateTokens) {
  EXPECT_ERROR(unigram(R"([["dup", 0], ["x", -1], ["dup", -2]])"), "\"dup\" is 0 and 2");
  EXPECT_ERROR(model(R"({"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []})"), "token 0");
  const std::string flags =
      R"(, "special": false, "lstrip": false, "rstrip": false, "single_word": false,
         "normalized": false})";
  EXPECT_ERROR(hf_json({.added = "[{\"id\": 300, \"content\": \"ab\"" + flags + "]"}),
               "expected id 256 for \"ab\"");
  EXPECT_ERROR(hf_json({.added = "[{\"id\": 256, \"content\": \"zz\"" + flags + "]"}), "token 256");
}

// §5.2 item 14: empty tokens.
TEST(HfMalformed, EmptyTokens) {
  const HfFolder folder;
  folder.write("tokenizer.json", hf_json({.more = R"(["ab", "<s>", "</s>", ""])"}));
  const auto tokenizer = Tokenizer::from_gguf(folder.metadata({.for_file = false}));
  EXPECT_EQ(tokenizer->encode("ab", {}), std::vector<TokenId>{256});
  EXPECT_EQ(tokenizer->piece(259, true), "");
  EXPECT_ERROR(hf_json({.added = R"([{"id": 300, "content": "", "special": false, "lstrip": false,
                        "rstrip": false, "single_word": false, "normalized": false}])"}),
               "expected a text that is not empty");
}

// §5.2 item 14: `<0x-1>`, `<0xGG>`.
TEST(HfMalformed, ByteTokensThatAreNone) {
  const HfFolder folder;
  folder.write("tokenizer.json",
               model(R"({"type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "merges": [],
                 "vocab": {"<unk>": 0, "<0x-1>": 1, "<0xGG>": 2, "<0x1>": 3, "<0xfF>": 4, "<0x>": 5,
                           "<0x0A>": 6}})"));
  ASSERT_EQ(folder.error(), "");
  const auto tokenizer = Tokenizer::from_gguf(folder.metadata({.for_file = false}));
  EXPECT_EQ(tokenizer->encode("\n", {}), std::vector<TokenId>{6});
  EXPECT_EQ(tokenizer->encode("\xFF", {}), std::vector<TokenId>{0});
  EXPECT_EQ(tokenizer->piece(1, false), " <0x-1>");  // a text like any other
}

// §5.2 item 14: merges naming unknown tokens, merges of one part.
TEST(HfMalformed, Merges) {
  for (const char* merge : {"\"a zz\"", "\"zz a\"", "\"b a\"", R"(["a", "zz"])"}) {
    EXPECT_ERROR(hf_json({.merges = std::string("[") + merge + "]"}), "model.merges[0]") << merge;
  }
  for (const char* merge : {"\"\"", "\"ab\"", "\" a\"", "\"a \"", "\"a b c\"", "7", "null", "[]",
                            R"(["a"])", R"(["a", ""])", R"(["a", 7])", R"(["a", "b", "c"])"}) {
    EXPECT_ERROR(hf_json({.merges = std::string("[\"a b\", ") + merge + "]"}), "model.merges[1]")
        << merge;
  }
  EXPECT_ERROR(hf_json({.merges = "null"}), "merges");
  EXPECT_ERROR(hf_json({.merges = "{}"}), "merges: expected a list");
}

// §5.2 item 14: cyclic merges.
TEST(HfMalformed, CyclicMergesEnd) {
  const HfFolder folder;
  folder.write("tokenizer.json", hf_json({.more = R"(["aa", "<s>", "</s>", "aaaa", "aaa"])",
                                          .merges = R"(["a a", "aa aa", "aa a", "a aa", "a a"])"}));
  const auto tokenizer = Tokenizer::from_gguf(folder.metadata({.for_file = false}));
  const std::string text(1001, 'a');
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(text, {}), false), text);
}

// §5.2 item 14: scores array short, or no numbers.
TEST(HfMalformed, Scores) {
  for (const char* item : {R"(["a"])", R"([])", R"(["a", null])", R"(["a", "1"])", R"([1, 1])",
                           R"("a")", R"(["a", 1, 2])", "{}"}) {
    EXPECT_ERROR(unigram(std::string(R"([["<unk>", 0], )") + item + "]"),
                 "model.vocab[1]: expected a text and a score")
        << item;
  }
  EXPECT_ERROR(unigram("[]"), "expected tokens");
  EXPECT_ERROR(unigram(R"([["a", 0]])", R"(, "unk_id": 1)"), "model.unk_id");
  EXPECT_ERROR(unigram(R"([["a", 0]])", R"(, "unk_id": -1)"), "model.unk_id");
}

TEST(HfMalformed, UnigramWithoutUnknownTokenRefusesTheText) {
  const HfFolder folder;
  folder.write("tokenizer.json", unigram(R"([["a", 0], ["b", -1]])"));
  const auto tokenizer = Tokenizer::from_gguf(folder.metadata());
  EXPECT_EQ(tokenizer->encode("ab", {}), (std::vector<TokenId>{0, 1}));
  EXPECT_THROW(tokenizer->encode("abc", {}), Error);
}

TEST(HfMalformed, Vocabularies) {
  for (const char* vocab : {"null", "[]", "7", R"({"a": -1})", R"({"a": 1.5})", R"({"a": "0"})",
                            R"({"a": 4000000000})", R"({"a": null})", "{}"}) {
    EXPECT_NE(
        error_of(model(std::string(R"({"type": "BPE", "merges": [], "vocab": )") + vocab + "}")),
        "")
        << vocab;
  }
  EXPECT_ERROR("{}", "expected \"model\"");
  EXPECT_ERROR(model(R"({"type": "WordPiece", "vocab": {"a": 0}})"), "unk_token");
  EXPECT_ERROR(hf_json({.model_options = "\"unk_token\": \"nope\", "}), "unk_token");
  EXPECT_ERROR(hf_json({.model_options = "\"dropout\": 0.1, "}), "model.dropout");
  EXPECT_ERROR(hf_json({.more = "[\"ab\", \"<s>\", \"</s>\", \"" + std::string(2000, 'x') + "\"]",
                        .added = "[{\"id\": 259, \"content\": \"" + std::string(2000, 'x') +
                                 R"(", "special": true, "lstrip": false, "rstrip": false,
                                 "single_word": false, "normalized": false}])"}),
               "at most 1024 bytes");
}

// Holes in the ids are filled, so that ids stay rows of the embedding.
TEST(HfMalformed, HolesAndPadding) {
  const HfFolder folder;
  folder.write("tokenizer.json",
               model(R"({"type": "BPE", "merges": [], "vocab": {"a": 0, "[PAD2]": 3}})"));
  const Metadata metadata = folder.metadata({.n_vocab = 6});
  EXPECT_EQ(*metadata.find_strings("tokenizer.ggml.tokens"),
            (std::vector<std::string>{"a", "[PAD1]", "[PAD2]_", "[PAD2]", "[PAD4]", "[PAD5]"}));
  EXPECT_EQ(*metadata.find_ints("tokenizer.ggml.token_type"),
            (std::vector<int64_t>{1, 5, 5, 1, 5, 5}));
  EXPECT_EQ(Tokenizer::from_gguf(metadata)->n_vocab(), 6);
}

// Rules that make a text grow without bound end in an Error.
TEST(HfMalformed, NormalizersThatExplode) {
  const HfFolder folder;
  std::string steps;
  for (int i = 0; i < 40; ++i) {
    steps += (i > 0 ? "," : "");
    steps += R"({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"})";
  }
  folder.write("tokenizer.json",
               hf_json({.normalizer = R"({"type": "Sequence", "normalizers": [)" + steps + "]}"}));
  const auto tokenizer = Tokenizer::from_gguf(folder.metadata({.for_file = false}));
  EXPECT_THROW(tokenizer->encode("a", {}), Error);
  EXPECT_EQ(tokenizer->encode("b", {}).size(), 1u);
}

TEST(HfMalformed, LongTextsWithoutAnyCut) {
  const HfFolder folder;
  folder.write("tokenizer.json", hf_json({.normalizer = R"({"type": "NFKC"})"}));
  const auto tokenizer = Tokenizer::from_gguf(folder.metadata({.for_file = false}));
  std::string marks = "a";
  for (int i = 0; i < 200'000; ++i) marks += i % 2 == 0 ? "\u0301" : "\u0323";
  EXPECT_GT(tokenizer->encode(marks, {}).size(), 200'000u);
  EXPECT_EQ(tokenizer->encode(std::string(1 << 20, 'a'), {}).size(), size_t{1} << 20);
}

}  // namespace
}  // namespace hob
