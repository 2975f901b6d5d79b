#pragma once
// Regular expressions of tokenizer.json. They are written for Oniguruma (Ruby's syntax); hob
// translates them to PCRE2 and refuses what it cannot translate with the same meaning. A search
// that would take too long is an Error, never a wrong answer.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace hob::hf {

// What one text may cost, so that neither a file's rules nor a user's text can hang or fill a
// server: time in regular expressions (a pattern such as \s+$ takes the square of a run of spaces,
// others far more), and bytes after normalisation. One per call, so one thread.
class WorkBudget {
 public:
  explicit WorkBudget(size_t n_text_bytes);
  // Both throw Error(kResourceExhausted) when there is too much.
  void spend(std::chrono::steady_clock::duration time) const;
  void check_size(size_t n_bytes) const;

 private:
  mutable std::chrono::steady_clock::duration left_;
  size_t max_bytes_;
};

struct Match {
  size_t begin;
  size_t end;
};

// Immutable after construction: any thread.
class Regex {
 public:
  // `where` stands in the errors: "pre_tokenizer.pattern".
  Regex(std::string_view pattern, const std::string& where);
  ~Regex();
  Regex(Regex&&) noexcept;

  // All matches from the left that do not overlap. An empty one directly behind another match does
  // not count, as in Oniguruma's binding. `text`: valid UTF-8.
  std::vector<Match> find_all(std::string_view text, const WorkBudget& budget) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

// `pattern` in PCRE2's syntax. Throws Error(kUnimplemented) on what has no counterpart.
std::string translate_regex(std::string_view pattern, const std::string& where);

}  // namespace hob::hf
