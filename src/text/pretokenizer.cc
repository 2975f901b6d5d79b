#include "text/pretokenizer.h"

#include <array>

#include "text/pretokenizer_matchers.h"

namespace hob {
namespace {

using namespace matchers;  // NOLINT: the tables below are the only use

constexpr std::array<Matcher, 1> kGpt2 = {gpt2};
constexpr std::array<Matcher, 1> kLlama3 = {llama3};
constexpr std::array<Matcher, 1> kQwen2 = {qwen2};
constexpr std::array<Matcher, 1> kQwen35 = {qwen35};
constexpr std::array<Matcher, 1> kGpt4o = {gpt4o};
constexpr std::array<Matcher, 1> kTekken = {tekken};
constexpr std::array<Matcher, 2> kStarCoder = {one_number, gpt2};
constexpr std::array<Matcher, 3> kFalcon = {falcon_punctuation, gpt2, three_digits};
constexpr std::array<Matcher, 4> kDefault = {punctuation, gpt2, numbers, three_digits};
constexpr std::array<Matcher, 6> kDeepSeekLlm = {
    line_break, deepseek_letters, deepseek_punctuation, trailing_space, deepseek_cjk, numbers};
constexpr std::array<Matcher, 5> kDeepSeekCoder = {line_break, coder_letters, coder_punctuation,
                                                   deepseek_cjk, one_number};
constexpr std::array<Matcher, 3> kDeepSeekV3 = {three_numbers, cjk_kana, deepseek_v3};

// Names as llama.cpp's converter writes them. Columns: name, stages, whole_word_first, add_bos.
constexpr std::array kTable = {
    PreTokenizer{"default", kDefault},
    PreTokenizer{"llama-bpe", kLlama3, true, true},
    PreTokenizer{"llama3", kLlama3, true, true},
    PreTokenizer{"llama-v3", kLlama3, true, true},
    PreTokenizer{"falcon3", kLlama3, true, true},
    PreTokenizer{"falcon-h1", kLlama3, true, true},
    PreTokenizer{"pixtral", kLlama3, true, true},
    PreTokenizer{"midm-2.0", kLlama3, true, true},
    PreTokenizer{"lfm2", kLlama3, true, true},
    PreTokenizer{"dbrx", kLlama3},
    PreTokenizer{"smaug-bpe", kLlama3},
    PreTokenizer{"chatglm-bpe", kLlama3},
    PreTokenizer{"glm4", kLlama3, true},
    PreTokenizer{"qwen2", kQwen2},
    PreTokenizer{"deepseek-r1-qwen", kQwen2},
    PreTokenizer{"stablelm2", kQwen2},
    PreTokenizer{"hunyuan", kQwen2},
    PreTokenizer{"megrez", kQwen2},
    PreTokenizer{"solar-open", kQwen2},
    PreTokenizer{"grok-2", kQwen2},
    PreTokenizer{"qwen35", kQwen35},
    PreTokenizer{"gpt-2", kGpt2},
    PreTokenizer{"phi-2", kGpt2},
    PreTokenizer{"mpt", kGpt2},
    PreTokenizer{"olmo", kGpt2},
    PreTokenizer{"jais", kGpt2},
    PreTokenizer{"trillion", kGpt2},
    PreTokenizer{"granite-docling", kGpt2},
    PreTokenizer{"exaone4", kGpt2},
    PreTokenizer{"gigachat", kGpt2},
    PreTokenizer{"mellum", kGpt2},
    PreTokenizer{"modern-bert", kGpt2},
    PreTokenizer{"starcoder", kStarCoder},
    PreTokenizer{"smollm", kStarCoder},
    PreTokenizer{"refact", kStarCoder},
    PreTokenizer{"command-r", kStarCoder},
    PreTokenizer{"codeshell", kStarCoder},
    PreTokenizer{"exaone", kStarCoder},
    PreTokenizer{"minerva-7b", kStarCoder},
    PreTokenizer{"falcon", kFalcon},
    PreTokenizer{"deepseek-llm", kDeepSeekLlm},
    PreTokenizer{"deepseek-coder", kDeepSeekCoder},
    PreTokenizer{"deepseek-v3", kDeepSeekV3},
    PreTokenizer{"hunyuan-dense", kDeepSeekV3},
    PreTokenizer{"gpt-4o", kGpt4o},
    PreTokenizer{"llama4", kGpt4o},
    PreTokenizer{"kanana2", kGpt4o},
    PreTokenizer{"minimax-m2", kGpt4o},
    PreTokenizer{"tekken", kTekken, true, true},
};

// Cuts [begin, end): matches and what lies between them both become pieces.
void apply_stage(Matcher match, const RuneText& text, Piece piece, std::vector<uint32_t>& ends) {
  size_t gap = piece.begin;  // first rune not yet in a piece
  for (size_t pos = piece.begin; pos < piece.end;) {
    const size_t match_end = match(text, pos, piece);
    if (match_end == pos) {
      ++pos;
      continue;
    }
    if (gap < pos) ends.push_back(static_cast<uint32_t>(pos));
    ends.push_back(static_cast<uint32_t>(match_end));
    gap = pos = match_end;
  }
  if (gap < piece.end) ends.push_back(static_cast<uint32_t>(piece.end));
}

}  // namespace

std::span<const PreTokenizer> all_pretokenizers() { return kTable; }

const PreTokenizer* find_pretokenizer(std::string_view name) {
  if (name.empty()) name = "default";
  for (const PreTokenizer& row : kTable) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

std::vector<uint32_t> split_words(const PreTokenizer& pretokenizer, const RuneText& text) {
  std::vector<uint32_t> ends;
  if (text.size() == 0) return ends;
  ends.push_back(static_cast<uint32_t>(text.size()));
  std::vector<uint32_t> finer;
  for (const Matcher match : pretokenizer.stages) {
    finer.clear();
    size_t begin = 0;
    for (const uint32_t end : ends) {
      apply_stage(match, text, {begin, end}, finer);
      begin = end;
    }
    ends.swap(finer);
  }
  return ends;
}

}  // namespace hob
