// Arbitrary bytes as a tokenizer.json, as a regular expression, and as a text for small tokenizers.
// The first byte chooses. Checked: no crash, no hang, ids inside the vocabulary, byte-level texts
// come back, what is streamed is valid UTF-8, user text makes no control token.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/bpe_tokenizer.h"
#include "text/hf/regex.h"
#include "text/hf_tokenizer.h"
#include "text/unicode.h"

namespace {

using hob::TokenId;
using hob::Tokenizer;

void require(bool condition) {
  if (!condition) std::abort();
}

bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const int length = hob::utf8_sequence_length(text.substr(i));
    if (length <= 0) return false;
    i += static_cast<size_t>(length);
  }
  return true;
}

std::unique_ptr<Tokenizer> make(const std::string& json) {
  hob::Metadata metadata;
  metadata.set(hob::kHfTokenizerKey, json);
  metadata.set("tokenizer.ggml.model", std::string("gpt2"));
  return Tokenizer::from_gguf(metadata);
}

std::string added(int id, const std::string& text, bool special, const std::string& flags) {
  return fmt::format(R"({{"id":{},"content":"{}","special":{},{}}})", id, text, special, flags);
}

constexpr const char* kPlain =
    R"("lstrip":false,"rstrip":false,"single_word":false,"normalized":false)";
constexpr const char* kGreedy =
    R"("lstrip":true,"rstrip":true,"single_word":false,"normalized":true)";
constexpr const char* kWord =
    R"("lstrip":false,"rstrip":false,"single_word":true,"normalized":true)";

std::string byte_level(const std::string& normalizer, const std::string& pre_tokenizer) {
  std::string vocab;
  for (int byte = 0; byte < 256; ++byte) {
    std::string text;
    hob::append_utf8(hob::byte_to_code_point(static_cast<uint8_t>(byte)), text);
    const bool escaped = text == "\"" || text == "\\";
    vocab += fmt::format("\"{}{}\":{},", escaped ? "\\" : "", text, byte);
  }
  return R"({"added_tokens":[)" + added(260, "<c>", true, kPlain) + "," +
         added(261, "<g>", false, kGreedy) + "," + added(262, "ww", false, kWord) +
         R"(],"normalizer":)" + normalizer + R"(,"pre_tokenizer":)" + pre_tokenizer +
         R"(,"decoder":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{)" + vocab +
         R"("ab":256,"abab":257,"Ġa":258,"ĠĠ":259},"merges":["a b","ab ab","Ġ a","Ġ Ġ"]}})";
}

constexpr const char* kSplit =
    R"re({"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"\\p{N}{1,3}|\\s+$|(?i:'s)|[^\\W\\d]+"},"behavior":"MergedWithNext"},{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]})re";

constexpr const char* kUnigram =
    R"({"normalizer":{"type":"Sequence","normalizers":[{"type":"NFKC"},{"type":"Strip","strip_left":false,"strip_right":true},{"type":"Replace","pattern":{"Regex":" {2,}"},"content":"▁"},{"type":"Nmt"}]},"pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"first"},"decoder":{"type":"Metaspace","replacement":"▁"},"model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0],["</s>",0],["▁",-2],["a",-3],["ab",-3.5],["▁ab",-4],["1",-3],["fi",-5]]}})";

constexpr const char* kWordPiece =
    R"({"normalizer":{"type":"BertNormalizer"},"pre_tokenizer":{"type":"BertPreTokenizer"},"decoder":{"type":"WordPiece","prefix":"##","cleanup":true},"model":{"type":"WordPiece","vocab":{"[UNK]":0,"a":1,"##a":2,"##b":3,".":4,"ab":5}}})";

std::vector<std::unique_ptr<Tokenizer>> make_subjects() {
  std::vector<std::unique_ptr<Tokenizer>> all;
  const std::string plain = R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":true})";
  all.push_back(make(byte_level("null", plain)));
  all.push_back(make(byte_level("null", kSplit)));
  all.push_back(make(byte_level(R"({"type":"NFD"})", plain)));
  all.push_back(make(kUnigram));
  all.push_back(make(kWordPiece));
  return all;
}

void check_text(const Tokenizer& tokenizer, std::string_view text, bool may_lose) {
  const std::vector<TokenId> ids = tokenizer.encode(text, {.parse_special = false});
  for (const TokenId id : ids) {
    require(id >= 0 && id < tokenizer.n_vocab());
    require(!tokenizer.is_control(id));
  }
  const std::string back = tokenizer.decode(ids, true);
  if (!may_lose) require(back == text);
  hob::Detokenizer stream(tokenizer);
  std::string streamed;
  for (const TokenId id : ids) streamed += stream.push(id);
  require(is_utf8(streamed + stream.finish()));
  // Two parts: what lies in the second is user content.
  const size_t half = text.size() / 2;
  const hob::TextPart parts[] = {{text.substr(0, half), true}, {text.substr(half), false}};
  const auto mixed = tokenizer.encode_parts(parts, true);
  static_cast<void>(tokenizer.decode(mixed, false));
}

void check_json(std::string_view data) {
  try {
    const auto tokenizer = make(std::string(data));
    // A file may frame texts with what it likes, so only crashes count.
    for (const std::string_view text : {std::string_view("a b\xFF 12é\n"), data.substr(0, 200)}) {
      const auto ids = tokenizer->encode(text, {});
      static_cast<void>(tokenizer->decode(ids, false));
      static_cast<void>(tokenizer->decode(ids, true));
    }
  } catch (const hob::Error&) {
  }
}

// Pattern and text, with a 0 byte between.
void check_regex(std::string_view data) {
  const size_t cut = std::min(data.find('\0'), data.size());
  std::string text;
  for (const char c : data.substr(std::min(cut + 1, data.size())))
    hob::append_utf8(static_cast<uint8_t>(c), text);
  if (!is_utf8(data.substr(0, cut))) return;  // JSON has only such
  try {
    const hob::hf::Regex regex(data.substr(0, cut), "fuzz");
    size_t end = 0;
    for (const hob::hf::Match& match : regex.find_all(text, hob::hf::WorkBudget(text.size()))) {
      require(match.begin >= end && match.end >= match.begin && match.end <= text.size());
      end = match.end;
    }
  } catch (const hob::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size < 2) return 0;
  static const auto subjects = make_subjects();
  const std::string_view data(reinterpret_cast<const char*>(bytes) + 1, size - 1);
  const char choice = static_cast<char>(bytes[0]);
  if (choice == '{') {
    check_json({reinterpret_cast<const char*>(bytes), size});
  } else if (choice == 'r') {
    check_regex(data);
  } else {
    // Byte-level vocabularies lose nothing but the spaces around <g>.
    const size_t i = bytes[0] % subjects.size();
    const bool exact = i < 2 && data.find("<g>") == std::string_view::npos;
    check_text(*subjects[i], data, !exact);
  }
  return 0;
}
