#include "edge/compatibility.h"

#include <openssl/sha.h>

#include <algorithm>

namespace hob::edge {
namespace {

// What tokenizers disagree about: spaces, digits, combining marks, emoji, scripts without spaces,
// what looks like control tokens, long runs, line ends, bytes that are no text.
constexpr std::string_view kProbes[] = {
    "Hello world",
    " leading and  double   spaces ",
    "tabs\tand\nlines\r\n\n\nend",
    "1234567890 3.14159 1,000,000",
    "don't we'll I'M they'Ve",
    "e\xcc\x81\x63ole na\xc3\xafve \xef\xac\x81sh",
    "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x9a\x80 \xf0\x9f\x87\xa9\xf0\x9f\x87\xaa "
    "\xe2\x9d\xa4\xef\xb8\x8f",
    "\xe4\xbd\xa0\xe5\xa5\xbd\xef\xbc\x8c\xe4\xb8\x96\xe7\x95\x8c \xe3\x81\x93\xe3\x82\x93",
    "\xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82 \xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d",
    "<|im_start|>user</s><bos>[INST]",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "                                        x",
    "int main() { return a->b != c; }  // x++",
    "https://example.org/a_b?c=d&e=%20",
    "CamelCase snake_case kebab-case ALLCAPS",
    "\xff\xfe\x80 bytes",
};

// What a digest is of: fields with their lengths, so that no two lists of them look alike.
class Digested {
 public:
  void add(std::string_view bytes) {
    add_number(bytes.size());
    bytes_ += bytes;
  }
  void add_number(uint64_t value) {
    for (int shift = 0; shift < 64; shift += 8) bytes_ += static_cast<char>(value >> shift);
  }
  std::string sha256() const {
    std::string out(SHA256_DIGEST_LENGTH, '\0');
    SHA256(reinterpret_cast<const uint8_t*>(bytes_.data()), bytes_.size(),
           reinterpret_cast<uint8_t*>(out.data()));
    return out;
  }

 private:
  std::string bytes_;
};

std::string list(const google::protobuf::RepeatedField<uint32_t>& ids) {
  std::string out;
  for (const uint32_t id : ids) out += fmt::format("{}{}", out.empty() ? "" : " ", id);
  return out;
}

// The probe that the two split differently, in words.
std::string difference(const pb::TokenizerId& server, const pb::TokenizerId& edge) {
  for (const pb::Probe& mine : server.probes())
    for (const pb::Probe& theirs : edge.probes())
      if (mine.text() == theirs.text() && !std::equal(mine.ids().begin(), mine.ids().end(),
                                                      theirs.ids().begin(), theirs.ids().end()))
        return fmt::format("'{}' is [{}] here and [{}] there", mine.text(), list(mine.ids()),
                           list(theirs.ids()));
  return "no probe shows where";
}

}  // namespace

pb::TokenizerId identify(const Tokenizer& tokenizer, std::string_view chat_template) {
  pb::TokenizerId out;
  Digested vocabulary;
  for (TokenId id = 0; id < tokenizer.n_vocab(); id++) {
    vocabulary.add(tokenizer.piece(id, true));
    vocabulary.add_number((tokenizer.is_control(id) ? 1u : 0u) | (tokenizer.is_end(id) ? 2u : 0u));
  }
  Digested rules;
  for (const std::string_view text : kProbes) {
    pb::Probe& probe = *out.add_probes();
    // A string field holds valid UTF-8 only; the last probe travels as a name.
    const bool broken = text.front() == '\xff';
    probe.set_text(broken ? "(bytes that are no UTF-8)" : std::string(text));
    for (const TokenId id : tokenizer.encode(text, {.add_special = true, .parse_special = false})) {
      probe.add_ids(static_cast<uint32_t>(id));
      rules.add_number(static_cast<uint64_t>(id));
    }
    rules.add("");
  }
  out.set_vocab_sha256(vocabulary.sha256());
  out.set_rules_sha256(rules.sha256());
  Digested of_template;
  of_template.add(chat_template);
  out.set_template_sha256(of_template.sha256());
  out.set_vocab_size(static_cast<uint32_t>(tokenizer.n_vocab()));
  for (const TokenId id : {tokenizer.bos(), tokenizer.eos()})
    if (id >= 0) out.add_bos_eos_ids(static_cast<uint32_t>(id));
  return out;
}

void check_compatible(const pb::TokenizerId& server, const pb::TokenizerId& edge) {
  if (edge.vocab_sha256().empty()) return;
  if (edge.vocab_size() != server.vocab_size())
    fail(Code::kInvalidArgument,
         "[edge] expected the server's vocabulary of {} tokens, the edge has {}",
         server.vocab_size(), edge.vocab_size());
  if (edge.vocab_sha256() != server.vocab_sha256())
    fail(Code::kInvalidArgument,
         "[edge] expected the server's vocabulary, the edge's {} tokens are others: {}",
         edge.vocab_size(), difference(server, edge));
  if (edge.rules_sha256() != server.rules_sha256())
    fail(Code::kInvalidArgument,
         "[edge] expected the server's rules for splitting text, the edge has others: {}",
         difference(server, edge));
}

}  // namespace hob::edge
