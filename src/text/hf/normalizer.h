#pragma once
// The normalisers of tokenizer.json: text to text, before it is cut.
#include <memory>
#include <string>
#include <vector>

#include "text/hf/json.h"
#include "text/hf/regex.h"

namespace hob::hf {

// A stretch of text on its way through the pipeline. Always valid UTF-8.
struct Stretch {
  std::string text;
  bool from_start = true;  // its first character comes from the first one of the input
};

// Immutable after construction: any thread.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void apply(Stretch& stretch, const WorkBudget& budget) const = 0;
};

// nullptr for null. Throws Error(kUnimplemented) naming an unknown kind.
std::unique_ptr<Normalizer> make_normalizer(const Node& node);

// The character that stands for each byte in byte-level vocabularies, bytes in place of carried
// ones.
std::string byte_characters(std::string_view text);

// `pattern`: {"String": text} or {"Regex": text}; a text by itself is a String.
class Pattern {
 public:
  explicit Pattern(const Node& owner);
  std::vector<Match> find_all(std::string_view text, const WorkBudget& budget) const;
  // "" when it is a regex, and the other way round.
  const std::string& literal() const { return literal_; }

 private:
  std::string literal_;
  std::unique_ptr<Regex> regex_;
};

}  // namespace hob::hf
