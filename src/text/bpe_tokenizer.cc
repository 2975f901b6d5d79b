#include "text/bpe_tokenizer.h"

#include "base/error.h"
#include "text/unicode.h"
#include "text/word_cache.h"

namespace hob {
namespace {

// Bytes that are printable Latin-1 stand for themselves.
bool stands_for_itself(uint32_t c) {
  return (c >= 0x21 && c <= 0x7E) || (c >= 0xA1 && c <= 0xAC) || (c >= 0xAE && c <= 0xFF);
}

const PreTokenizer& read_pretokenizer(const Metadata& metadata) {
  const std::string name = metadata.find_string("tokenizer.ggml.pre").value_or("");
  const PreTokenizer* found = find_pretokenizer(name);
  if (found == nullptr) {
    fail(Code::kUnimplemented,
         "[tokenizer] tokenizer.ggml.pre: expected a known pre-tokenizer, file has \"{}\"", name);
  }
  return *found;
}

const std::vector<std::string>& read_merges(const Metadata& metadata) {
  const auto* merges = metadata.find_strings("tokenizer.ggml.merges");
  if (merges == nullptr)
    fail(Code::kDataLoss, "[tokenizer] tokenizer.ggml.merges: expected a list, file has none");
  return *merges;
}

Vocabulary read_vocabulary(const Metadata& metadata, const PreTokenizer& pretokenizer) {
  // 11 is Falcon's <|endoftext|>, llama.cpp's default for the whole family; elsewhere it is an
  // ordinary token.
  return Vocabulary::from_gguf(
      metadata, {.bos = 11, .eos = 11, .add_bos = pretokenizer.add_bos, .only_control = true});
}

}  // namespace

// The 68 other bytes, ascending, get the code points from 256 on.
uint32_t byte_to_code_point(uint8_t byte) {
  if (stands_for_itself(byte)) return byte;
  uint32_t n_before = 0;
  for (uint32_t b = 0; b < byte; ++b) n_before += stands_for_itself(b) ? 0 : 1;
  return 256 + n_before;
}

int code_point_to_byte(uint32_t code_point) {
  if (stands_for_itself(code_point)) return static_cast<int>(code_point);
  if (code_point < 256) return -1;
  uint32_t n_before = 256;
  for (int byte = 0; byte < 256; ++byte) {
    if (!stands_for_itself(static_cast<uint32_t>(byte)) && n_before++ == code_point) return byte;
  }
  return -1;
}

BpeTokenizer::BpeTokenizer(const Metadata& metadata)
    : BpeTokenizer(metadata, read_pretokenizer(metadata)) {}

BpeTokenizer::BpeTokenizer(const Metadata& metadata, const PreTokenizer& pretokenizer)
    : BaseTokenizer(read_vocabulary(metadata, pretokenizer),
                    metadata.find_bool("tokenizer.ggml.add_space_prefix").value_or(false)),
      pretokenizer_(&pretokenizer),
      merges_(vocabulary(), read_merges(metadata)) {
  for (int byte = 0; byte < 256; ++byte) {
    std::string character;
    append_utf8(byte_to_code_point(static_cast<uint8_t>(byte)), character);
    byte_symbol_[static_cast<size_t>(byte)] = merges_.symbol(character);
  }
}

void BpeTokenizer::encode_plain(std::string_view text, std::vector<TokenId>& out) const {
  const RuneText runes = decode_runes(text);
  WordCache cache;
  MergeQueue queue;
  uint32_t begin = 0;
  for (const uint32_t end_rune : split_words(*pretokenizer_, runes)) {
    const uint32_t end = runes.begin_byte[end_rune];
    cache.append(
        text.substr(begin, end - begin), out,
        [&](std::string_view word, std::vector<TokenId>& ids) { encode_word(word, queue, ids); });
    begin = end;
  }
}

void BpeTokenizer::encode_word(std::string_view word, MergeQueue& queue,
                               std::vector<TokenId>& out) const {
  if (pretokenizer_->whole_word_first) {
    std::string characters;
    for (const char c : word) append_utf8(byte_to_code_point(static_cast<uint8_t>(c)), characters);
    if (const TokenId id = vocabulary().find_ordinary(characters); id >= 0) {
      out.push_back(id);
      return;
    }
  }
  queue.clear();
  for (size_t i = 0; i < word.size(); ++i) {
    queue.add(static_cast<uint32_t>(i), 1, byte_symbol_[static_cast<uint8_t>(word[i])]);
  }
  queue.run([&](const MergeSymbol& left, const MergeSymbol& right, MergeCandidate& candidate) {
    const MergeTable::Merge merge = merges_.find(left.id, right.id);
    candidate.order = merge.rank;
    candidate.id = merge.joined;
    return merge.rank >= 0;
  });
  for (const MergeSymbol& symbol : queue.symbols()) {
    if (symbol.size == 0) continue;
    if (vocabulary().contains(symbol.id)) {
      out.push_back(symbol.id);
      continue;
    }
    // A step that is no token itself: its bytes. Bytes that the vocabulary lacks cannot be
    // expressed at all.
    for (uint32_t i = symbol.begin; i < symbol.begin + symbol.size; ++i) {
      const int32_t byte = byte_symbol_[static_cast<uint8_t>(word[i])];
      if (vocabulary().contains(byte)) out.push_back(byte);
    }
  }
}

std::string BpeTokenizer::normal_piece(std::string_view text) const {
  std::string out;
  const RuneText runes = decode_runes(text);
  for (size_t i = 0; i < runes.size(); ++i) {
    const int byte =
        runes.runes[i].is(Rune::kInvalid) ? -1 : code_point_to_byte(runes.runes[i].code_point());
    if (byte >= 0) {
      out.push_back(static_cast<char>(byte));
    } else {
      out += text.substr(runes.begin_byte[i], runes.begin_byte[i + 1] - runes.begin_byte[i]);
    }
  }
  return out;
}

}  // namespace hob
