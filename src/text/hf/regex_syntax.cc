// Oniguruma's syntax as PCRE2's, one construct after the other. What is listed here means the same
// in both afterwards; everything else is refused by name.
#include <cctype>
#include <utility>

#include "base/error.h"
#include "text/hf/regex.h"
#include "text/hf/regex_names.h"

namespace hob::hf {
namespace {

class Translator {
 public:
  Translator(std::string_view in, const std::string& where) : in_(in), where_(where) {}

  std::string run() {
    while (!done()) step();
    return std::move(out_);
  }

 private:
  // What a class is made of.
  struct Class {
    bool negated = false;
    std::string members;
    bool not_word = false;  // \W, which is no single member
    size_t set_end = 0;  // members.size() when the last one was a set, which no range begins with
    std::string also;    // a second set behind &&, in brackets
  };

  bool done() const { return pos_ >= in_.size(); }
  char peek(size_t ahead = 0) const { return pos_ + ahead < in_.size() ? in_[pos_ + ahead] : '\0'; }
  bool accept(std::string_view text) {
    if (!in_.substr(pos_).starts_with(text)) return false;
    pos_ += text.size();
    return true;
  }
  [[noreturn]] void refuse(std::string_view what) const {
    fail(Code::kUnimplemented,
         "[tokenizer] {}: expected a regular expression that hob can read, file has {} at {}",
         where_, what, pos_);
  }
  // Quantifiers refer to what begins here.
  void begin_atom() { atom_ = out_.size(); }

  void step();
  void group();
  void options();
  void quantifier();
  void braces();
  void escape();
  std::string code_point_escape(char kind);
  std::string property(char kind);
  Class char_class(int depth);
  void class_escape(Class& c);
  static std::string brackets(const Class& c);

  std::string_view in_;
  const std::string& where_;
  size_t pos_ = 0;
  std::string out_;
  size_t atom_ = 0;
  std::vector<size_t> groups_;  // where the open ones begin in out_
};

void Translator::step() {
  const char c = peek();
  switch (c) {
    case '(':
      return group();
    case ')':
      if (groups_.empty()) refuse("a ) too many");
      atom_ = groups_.back();
      groups_.pop_back();
      break;
    case '[': {
      begin_atom();
      ++pos_;
      out_ += brackets(char_class(0));
      return;
    }
    case '\\':
      begin_atom();
      return escape();
    case '{':
      return braces();
    case '*':
    case '+':
    case '?':
      return quantifier();
    case '|':
    case '^':
    case '$':
      break;
    default:
      begin_atom();
      // '#' and blanks are literal in both as long as nobody asks for extended syntax.
      while ((static_cast<uint8_t>(peek(1)) & 0xC0) == 0x80) out_.push_back(in_[pos_++]);
  }
  out_.push_back(in_[pos_++]);
}

void Translator::group() {
  groups_.push_back(out_.size());
  for (const std::string_view same : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"}) {
    if (accept(same)) {
      out_ += same;
      return;
    }
  }
  if (peek(1) == '*') refuse("(*");  // PCRE2's own commands
  if (peek(1) != '?') {
    ++pos_;
    out_ += '(';
    return;
  }
  options();
}

// (?i) and (?i:...), the only options that published tokenizers use. Elsewhere than at the
// beginning of a group, (?i) reaches further in Ruby's syntax than in PCRE2's.
void Translator::options() {
  const size_t begin = pos_;
  pos_ += 2;
  while (peek() == 'i' || peek() == '-') ++pos_;
  const std::string_view text = in_.substr(begin, pos_ - begin);
  if (text == "(?i" || text == "(?-i") {
    if (accept(":")) {
      out_ += std::string(text) + ":";
      return;
    }
    const bool first = groups_.size() == 1 && out_.empty();
    if (first && accept(")")) {
      out_ += std::string(text) + ")";
      groups_.pop_back();
      return;
    }
  }
  pos_ = begin;
  refuse("the group " + std::string(in_.substr(begin, 5)));
}

void Translator::quantifier() {
  out_.push_back(in_[pos_++]);
  if (peek() == '?' || peek() == '+') out_.push_back(in_[pos_++]);
}

void Translator::braces() {
  size_t i = pos_ + 1;
  const auto digits = [&] {
    const size_t begin = i;
    while (i < in_.size() && std::isdigit(static_cast<unsigned char>(in_[i])) != 0) ++i;
    return in_.substr(begin, i - begin);
  };
  const std::string_view low = digits();
  const bool range = i < in_.size() && in_[i] == ',';
  if (range) ++i;
  const std::string_view high = range ? digits() : low;
  if (i >= in_.size() || in_[i] != '}' || (low.empty() && high.empty())) {
    begin_atom();  // a literal brace
    out_ += "\\{";
    ++pos_;
    return;
  }
  pos_ = i + 1;
  out_ += "{" + std::string(low.empty() ? "0" : low);
  if (range) out_ += "," + std::string(high);
  out_ += "}";
  // {n,m}+ repeats the whole in Ruby's syntax, {n}? makes it optional.
  if (peek() == '+' || (peek() == '?' && !range)) {
    out_.insert(atom_, "(?:");
    out_ += ")";
    out_.push_back(in_[pos_++]);
  } else if (peek() == '?') {
    out_.push_back(in_[pos_++]);
  }
}

void Translator::escape() {
  const char kind = peek(1);
  if (kind == '\0') refuse("a single \\");
  if (kind == 'b' || kind == 'B') {
    const std::string word = "[" + std::string(kOnigWord) + "]";
    const std::string edge = "(?<=" + word + ")(?!" + word + ")|(?<!" + word + ")(?=" + word + ")";
    const std::string inside =
        "(?<=" + word + ")(?=" + word + ")|(?<!" + word + ")(?!" + word + ")";
    pos_ += 2;
    out_ += "(?:" + (kind == 'b' ? edge : inside) + ")";
    return;
  }
  if (kind == 'A' || kind == 'z' || kind == 'Z' || (kind >= '1' && kind <= '9')) {
    out_.append(in_.substr(pos_, 2));
    pos_ += 2;
    return;
  }
  if (kind == 'w' || kind == 'W') {
    pos_ += 2;
    out_ += (kind == 'w' ? "[" : "[^") + std::string(kOnigWord) + "]";
    return;
  }
  Class c;
  class_escape(c);
  out_ += brackets(c);
}

// \u0041, \x41, \x{41}
std::string Translator::code_point_escape(char kind) {
  std::string digits;
  if (kind == 'x' && accept("{")) {
    while (!done() && peek() != '}') digits.push_back(in_[pos_++]);
    if (!accept("}")) refuse("\\x{ without }");
  } else {
    digits = in_.substr(pos_, kind == 'u' ? 4 : 2);
    pos_ += digits.size();
  }
  uint32_t value = 0;
  for (const char d : digits) {
    if (std::isxdigit(static_cast<unsigned char>(d)) == 0 || value > 0x10FFFF) refuse("a bad code");
    value = value * 16 + static_cast<uint32_t>(d <= '9' ? d - '0' : (d | 0x20) - 'a' + 10);
  }
  // \x80 and above are single bytes there.
  if (digits.empty() || (kind == 'u' && digits.size() != 4) ||
      (kind == 'x' && digits.size() == 2 && value > 0x7F && in_[pos_ - 1] != '}'))
    refuse("a bad code");
  return fmt::format("\\x{{{:X}}}", value);
}

// \p{Name}, \P{Name}, \p{^Name}
std::string Translator::property(char kind) {
  if (!accept("{")) refuse("\\p without {");
  const bool inverted = accept("^");
  std::string name, plain;
  for (; !done() && peek() != '}'; ++pos_) {
    const char c = peek();
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '_' && c != ' ' && c != '-')
      refuse("a bad property");
    name.push_back(c);
    if (c != '_' && c != ' ' && c != '-')
      plain.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
  }
  if (!accept("}") || plain.empty()) refuse("\\p{ without }");
  const std::string sign = (kind == 'P') != inverted ? "\\P{" : "\\p{";
  if (is_category(plain)) return sign + name + "}";
  if (const std::string_view ours = property_name(plain); !ours.empty())
    return sign + std::string(ours) + "}";
  // Scripts mean the property Script there, Script_Extensions in PCRE2.
  return sign + "sc:" + name + "}";
}

void Translator::class_escape(Class& c) {
  const char kind = peek(1);
  pos_ += 2;
  if (kind == 'W') {
    c.not_word = true;
  } else if (kind == 'p' || kind == 'P') {
    c.members += property(kind);
    c.set_end = c.members.size();
  } else if (kind == 'u' || kind == 'x') {
    c.members += code_point_escape(kind);
  } else if (const auto known = class_escape_members(kind); !known.empty()) {
    c.members += known;
    if (known.size() > 4 || known == "0-9A-Fa-f") c.set_end = c.members.size();
  } else if (std::isalnum(static_cast<unsigned char>(kind)) != 0 || kind == '\0') {
    pos_ -= 2;
    refuse(std::string("\\") + kind);
  } else if (static_cast<uint8_t>(kind) >= 0x80) {
    --pos_;  // an escaped letter of another script is that letter
    do {
      c.members.push_back(in_[pos_++]);
    } while ((static_cast<uint8_t>(peek()) & 0xC0) == 0x80);
  } else {
    c.members += std::string("\\") + kind;
  }
}

// Behind the opening bracket.
Translator::Class Translator::char_class(int depth) {
  if (depth > 2) refuse("classes nested too deep");
  Class c;
  c.negated = accept("^");
  for (bool first = true;; first = false) {
    if (done()) refuse("[ without ]");
    if (peek() == ']' && !first) {
      ++pos_;
      return c;
    }
    if (accept("[:")) {
      const size_t end = in_.find(":]", pos_);
      const std::string_view name =
          end == std::string_view::npos ? "" : in_.substr(pos_, end - pos_);
      const std::string_view ours = posix_class_members(name);
      if (ours.empty()) refuse("[:" + std::string(name.substr(0, 10)) + ":]");
      c.members += ours;
      c.set_end = c.members.size();
      pos_ = end + 2;
    } else if (accept("&&")) {
      if (!accept("[")) refuse("&& without [");
      c.also = brackets(char_class(depth + 1));
      if (peek() != ']') refuse("a class that goes on behind &&");
    } else if (accept("[")) {
      if (c.members.ends_with('-')) refuse("a range up to a class");
      const Class inner = char_class(depth + 1);
      if (inner.negated || inner.not_word || !inner.also.empty())
        refuse("a negated class in a class");
      c.members += inner.members;
      c.set_end = c.members.size();
    } else if (peek() == '-' && (c.members.empty() || c.set_end == c.members.size())) {
      c.members += "\\-";
      ++pos_;
    } else if (peek() == '\\') {
      class_escape(c);
    } else if (peek() == ']') {
      c.members += "\\]";
      ++pos_;
    } else {
      c.members.push_back(in_[pos_++]);
    }
  }
}

std::string Translator::brackets(const Class& c) {
  const std::string word(kOnigClassWord);
  std::string set;
  if (!c.not_word) {
    set = (c.negated ? "[^" : "[") + c.members + "]";
  } else if (c.members.empty()) {
    set = (c.negated ? "[" : "[^") + word + "]";
  } else if (c.negated) {
    set = "(?:(?![" + c.members + "])[" + word + "])";
  } else {
    set = "(?:[" + c.members + "]|[^" + word + "])";
  }
  if (c.also.empty()) return set;
  if (c.negated) return "(?:(?!(?=" + c.also + ")[" + c.members + "])(?s:.))";
  return "(?:(?=" + c.also + ")" + set + ")";
}

}  // namespace

std::string translate_regex(std::string_view pattern, const std::string& where) {
  return Translator(pattern, where).run();
}

}  // namespace hob::hf
