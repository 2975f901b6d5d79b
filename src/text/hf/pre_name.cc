// Which of the pre-tokenizers that GGUF names a tokenizer.json describes: by its steps and regular
// expressions, not by what they do to a test text.
#include <algorithm>
#include <array>
#include <vector>

#include "text/hf/gguf_family.h"

namespace hob::hf {
namespace {

constexpr std::string_view kGpt2Step = "ByteLevel";
constexpr std::string_view kTail = R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kContractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
constexpr std::string_view kUpper = R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])";
constexpr std::string_view kLower = R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])";

std::string join(std::initializer_list<std::string_view> parts) {
  std::string out;
  for (const std::string_view part : parts) out += part;
  return out;
}

struct Known {
  std::vector<std::string> steps;  // one ending in "..." stands for all that begin so
  std::string name;
  std::string name_without_ignore_merges;  // where the family's name implies it
};

// With `word` for the words' letters and `number` for the digits.
std::string llama3_like(std::string_view number) {
  return join({kContractions, R"(|[^\r\n\p{L}\p{N}]?\p{L}+|)", number, kTail});
}

std::string cased(std::string_view contractions, std::string_view number) {
  const std::string lead = R"([^\r\n\p{L}\p{N}]?)";
  return join({lead, kUpper, "*", kLower, "+", contractions, "|", lead, kUpper, "+", kLower, "*",
               contractions, "|", number,
               R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"});
}

std::vector<Known> known_ones() {
  const std::string option = join({kContractions, "?"});
  return {
      {{std::string(kGpt2Step)}, "gpt-2", ""},
      {{llama3_like(R"(\p{N}{1,3})")}, "llama-bpe", "dbrx"},
      {{llama3_like(R"(\p{N})")}, "qwen2", ""},
      {{join({kContractions, R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N})",
              R"(| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"})},
       "qwen35",
       ""},
      {{cased(option, R"(\p{N}{1,3})")}, "gpt-4o", ""},
      {{cased("", R"(\p{N})")}, "tekken", ""},
      {{"Digits(each)", std::string(kGpt2Step)}, "starcoder", ""},
      {{R"(\p{N})", std::string(kGpt2Step)}, "starcoder", ""},
      {{"Punctuation(Contiguous)", std::string(kGpt2Step), "Digits(runs)", "[0-9][0-9][0-9]"},
       "falcon",
       ""},
      {{R"([\r\n])", R"(\s?[A-Za-zµ...)", R"(\s?[!-/:-~...)", R"(\s+$)", "[一-龥ࠀ-一가-퟿]+",
        "Digits(each)"},
       "deepseek-llm",
       ""},
      {{R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", "[一-龥ࠀ-一가-퟿]+", "Digits(each)"},
       "deepseek-coder",
       ""},
      {{R"(\p{N}{1,3})", "[一-龥぀-ゟ゠-ヿ]+",
        R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|...)"},
       "deepseek-v3",
       ""},
  };
}

// Line breaks stand as themselves or as \r and \n.
std::string with_escapes(std::string_view pattern) {
  std::string out;
  for (const char c : pattern) {
    if (c == '\r') {
      out += "\\r";
    } else if (c == '\n') {
      out += "\\n";
    } else {
      out.push_back(c);
    }
  }
  return out;
}

// A step as a word, "?" when no name has one like it.
std::string step_of(const Node& node) {
  const std::string type = node.type();
  if (type == "Digits") return node.flag("individual_digits") ? "Digits(each)" : "Digits(runs)";
  if (type == "Punctuation")
    return "Punctuation(" + node.find_string("behavior").value_or("Isolated") + ")";
  if (type == "ByteLevel") {
    if (node.flag("add_prefix_space")) return "?";
    return node.flag("use_regex", true) ? std::string(kGpt2Step) : "";
  }
  if (type != "Split") return "?";
  const std::string behavior = node.string("behavior");
  const bool invert = node.flag("invert", false);
  const auto pattern = node.find("pattern");
  const bool regex = pattern && pattern->value().is_object() && pattern->find("Regex");
  // Removing what lies between matches that leave nothing out is isolating them.
  const bool cuts = (behavior == "Isolated" && !invert) || (behavior == "Removed" && invert);
  return regex && cuts ? with_escapes(pattern->string("Regex")) : "?";
}

std::vector<std::string> steps_of(const Node& root) {
  std::vector<std::string> steps;
  const auto node = root.find("pre_tokenizer");
  if (!node) return {"?"};
  if (node->type() != "Sequence") return {step_of(*node)};
  for (size_t i = 0; i < node->list_size("pretokenizers"); ++i) {
    const std::string step = step_of(node->item("pretokenizers", i));
    if (!step.empty()) steps.push_back(step);
  }
  return steps;
}

bool matches(const std::vector<std::string>& steps, const Known& known) {
  return std::equal(steps.begin(), steps.end(), known.steps.begin(), known.steps.end(),
                    [](const std::string& step, std::string_view pattern) {
                      if (!pattern.ends_with("...")) return step == pattern;
                      return step.starts_with(pattern.substr(0, pattern.size() - 3));
                    });
}

}  // namespace

std::string pre_name(const Node& root) {
  // GGUF names no normaliser. NFC is left out as everywhere: texts nearly always have that form.
  if (const auto normalizer = root.find("normalizer"); normalizer && normalizer->type() != "NFC")
    return "";
  const std::vector<std::string> steps = steps_of(root);
  const bool ignores_merges = root.object("model").flag("ignore_merges", false);
  for (const Known& known : known_ones()) {
    if (!matches(steps, known)) continue;
    const bool other = !ignores_merges && !known.name_without_ignore_merges.empty();
    return other ? known.name_without_ignore_merges : known.name;
  }
  return "";
}

}  // namespace hob::hf
