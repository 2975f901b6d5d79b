// Arbitrary bytes as a text for small SPM and BPE vocabularies, as a vocabulary, and as a stream of
// tokens. The first byte chooses. Checked: no crash, what is encoded comes back, what is streamed
// is valid UTF-8.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "text/bpe_tokenizer.h"
#include "text/chat_template.h"
#include "text/pretokenizer.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace {

using hob::Detokenizer;
using hob::Metadata;
using hob::TokenId;
using hob::Tokenizer;
using Strings = std::vector<std::string>;

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

std::unique_ptr<Tokenizer> make_spm() {
  Strings tokens = {"<unk>", "<s>", "</s>", "<|user|>"};
  std::vector<int64_t> types = {2, 3, 3, 3};
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back(fmt::format("<0x{:02X}>", byte));
    types.push_back(6);
  }
  for (const char* text : {"▁", "a", "b", "ab", "▁a", "▁▁", "a▁b", "ä", "äa", "0", "\n\n"}) {
    tokens.push_back(text);
    types.push_back(1);
  }
  Metadata metadata;
  metadata.set("tokenizer.ggml.model", std::string("llama"));
  metadata.set("tokenizer.ggml.scores", std::vector<double>(tokens.size(), -1.0));
  metadata.set("tokenizer.ggml.tokens", tokens);
  metadata.set("tokenizer.ggml.token_type", types);
  metadata.set("general.name", std::string("phi-3"));  // tokens that swallow whitespace
  return Tokenizer::from_gguf(metadata);
}

std::unique_ptr<Tokenizer> make_bpe(std::string_view pre) {
  Strings tokens;
  for (int byte = 0; byte < 256; ++byte) {
    tokens.emplace_back();
    hob::append_utf8(hob::byte_to_code_point(static_cast<uint8_t>(byte)), tokens.back());
  }
  std::vector<int64_t> types(tokens.size(), 1);
  for (const char* text : {"<ctl>", "<c", "  "}) {
    tokens.push_back(text);
    types.push_back(text[0] == ' ' ? 4 : 3);
  }
  for (const char* text : {"ab", "abab", "Ġa", "ĠĠ", "Ã¤", "11"}) {
    tokens.push_back(text);
    types.push_back(1);
  }
  Metadata metadata;
  metadata.set("tokenizer.ggml.model", std::string("gpt2"));
  metadata.set("tokenizer.ggml.pre", std::string(pre));
  metadata.set("tokenizer.ggml.tokens", tokens);
  metadata.set("tokenizer.ggml.token_type", types);
  metadata.set("tokenizer.ggml.merges", Strings{"a b", "ab ab", "Ġ a", "Ġ Ġ", "Ã ¤", "1 1", "b a"});
  return Tokenizer::from_gguf(metadata);
}

void check_text(const Tokenizer& tokenizer, std::string_view text, bool exact) {
  const std::vector<TokenId> plain =
      tokenizer.encode(text, {.add_special = false, .parse_special = false});
  const std::string back = tokenizer.decode(plain, true);
  if (exact) require(back == text);
  const std::vector<TokenId> parsed = tokenizer.encode(text, {});
  static_cast<void>(tokenizer.decode(parsed, false));
  Detokenizer stream(tokenizer);
  std::string streamed;
  for (const TokenId id : plain) {
    require(id >= 0 && id < tokenizer.n_vocab());
    // Without byte tokens the unknown token stands in, and a file may call that one a control
    // token.
    if (exact) require(!tokenizer.is_control(id));
    const std::string now = stream.push(id);
    require(is_utf8(now));
    streamed += now;
  }
  streamed += stream.finish();
  require(is_utf8(streamed));
  if (exact && is_utf8(text)) require(streamed == text);
}

void check_stream(const Tokenizer& tokenizer, std::string_view data) {
  Detokenizer stream(tokenizer);
  for (const char c : data) {
    const auto id = static_cast<TokenId>((static_cast<uint8_t>(c) * 5) % tokenizer.n_vocab());
    require(is_utf8(stream.push(id)));
  }
  require(is_utf8(stream.finish()));
}

Strings lines_of(std::string_view data) {
  Strings lines(1);
  for (const char c : data) {
    if (c == '\n') {
      lines.emplace_back();
    } else {
      lines.back().push_back(c);
    }
  }
  return lines;
}

// A vocabulary whose tokens and merges are the input's lines and whose types and scores are its
// bytes.
void check_vocabulary(std::string_view data, bool spm) {
  const Strings lines = lines_of(data);
  std::vector<int64_t> types;
  std::vector<double> scores;
  for (size_t i = 0; i < lines.size(); ++i) {
    types.push_back(static_cast<uint8_t>(data[i % data.size()]) % 8);
    scores.push_back(static_cast<int8_t>(data[data.size() - 1 - i % data.size()]));
  }
  Metadata metadata;
  metadata.set("tokenizer.ggml.model", std::string(spm ? "llama" : "gpt2"));
  metadata.set("tokenizer.ggml.pre", std::string("llama-bpe"));
  metadata.set("tokenizer.ggml.tokens", lines);
  metadata.set("tokenizer.ggml.token_type", types);
  metadata.set("tokenizer.ggml.scores", scores);
  metadata.set(
      "tokenizer.ggml.merges",
      Strings(lines.begin(), lines.begin() + static_cast<std::ptrdiff_t>(lines.size() / 2)));
  metadata.set("tokenizer.ggml.eos_token_id",
               static_cast<uint64_t>(static_cast<uint8_t>(data[0]) / 16));
  try {
    const auto tokenizer = Tokenizer::from_gguf(metadata);
    check_text(*tokenizer, data, false);
    check_stream(*tokenizer, data);
  } catch (const hob::Error&) {
  }
}

void check_chat(const Tokenizer& tokenizer, std::string_view data) {
  const auto chat = hob::detect_chat_template(data);
  if (!chat) return;
  try {
    render_chat(*chat, tokenizer, {{"user", std::string(data)}});
  } catch (const hob::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size < 2) return 0;
  static const auto spm = make_spm();
  static const auto bpes = [] {
    std::vector<std::unique_ptr<Tokenizer>> all;
    for (const hob::PreTokenizer& row : hob::all_pretokenizers()) all.push_back(make_bpe(row.name));
    return all;
  }();
  const std::string_view data(reinterpret_cast<const char*>(bytes) + 1, size - 1);
  switch (bytes[0] % 6) {
    case 0:
      // U+2581 in the text cannot be told from a space, so it does not come back.
      check_text(*spm, data, data.find("\xE2\x96\x81") == std::string_view::npos);
      break;
    case 1:
      check_text(*bpes[static_cast<uint8_t>(data[0]) % bpes.size()], data.substr(1), true);
      break;
    case 2:
      check_vocabulary(data, true);
      break;
    case 3:
      check_vocabulary(data, false);
      break;
    case 4:
      check_stream(*spm, data);
      check_stream(*bpes.front(), data);
      break;
    default:
      check_chat(*bpes.front(), data);
  }
  return 0;
}
