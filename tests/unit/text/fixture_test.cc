// Token-exact comparison with published vocabularies: NAME.gguf, NAME.gguf.inp (texts between
// separator lines), NAME.gguf.out (expected ids, one line per text). Two small ones lie in
// tests/data; a directory with more is taken from HOB_FIXTURES or ../shared/fixtures beside the
// source, when it is there.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "format/gguf.h"
#include "text/tokenizer.h"

namespace hob {
namespace {

namespace fs = std::filesystem;

std::string read_all(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::vector<std::string> texts_of(const std::string& inp) {
  constexpr std::string_view kSeparator = "\n__ggml_vocab_test__\n";
  std::vector<std::string> texts;
  size_t begin = 0;
  for (size_t end = inp.find(kSeparator); end != std::string::npos;
       end = inp.find(kSeparator, begin)) {
    texts.push_back(inp.substr(begin, end - begin));
    begin = end + kSeparator.size();
  }
  return texts;
}

std::vector<std::vector<TokenId>> ids_of(const std::string& out) {
  std::vector<std::vector<TokenId>> lists;
  std::istringstream lines(out);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream numbers(line);
    lists.emplace_back(std::istream_iterator<TokenId>(numbers), std::istream_iterator<TokenId>());
  }
  return lists;
}

std::vector<std::string> vocabularies() {
  std::vector<std::string> paths;
  const char* from_env = std::getenv("HOB_FIXTURES");
  const fs::path fixtures = from_env != nullptr ? from_env : HOB_SOURCE_DIR "/../shared/fixtures";
  for (const fs::path& folder : {fs::path(HOB_TEST_DATA "/text"), fixtures / "tokenizers"}) {
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(folder, none)) {
      if (entry.path().extension() == ".gguf" && fs::exists(entry.path().string() + ".inp")) {
        paths.push_back(entry.path().string());
      }
    }
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

class VocabularyFixture : public testing::TestWithParam<std::string> {};

TEST_P(VocabularyFixture, EncodesEveryTextAsExpectedAndBack) {
  const auto tokenizer = Tokenizer::from_gguf(open_gguf(GetParam()).metadata());
  const std::vector<std::string> texts = texts_of(read_all(GetParam() + ".inp"));
  const std::vector<std::vector<TokenId>> expected = ids_of(read_all(GetParam() + ".out"));
  ASSERT_FALSE(texts.empty());
  ASSERT_EQ(texts.size(), expected.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::vector<TokenId> ids = tokenizer->encode(texts[i], {.add_special = false});
    EXPECT_EQ(ids, expected[i]) << "text " << i << ": " << texts[i];
    EXPECT_EQ(tokenizer->decode(ids, true), texts[i]);

    Detokenizer stream(*tokenizer);
    std::string streamed;
    for (const TokenId id : ids) streamed += stream.push(id);
    EXPECT_EQ(streamed + stream.finish(), texts[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, VocabularyFixture, testing::ValuesIn(vocabularies()),
                         [](const auto& test) {
                           std::string name;
                           for (const char c :
                                fs::path(test.param).parent_path().filename().string() + "_" +
                                    fs::path(test.param).stem().string()) {
                             name.push_back(std::isalnum(static_cast<unsigned char>(c)) ? c : '_');
                           }
                           return name;
                         });

}  // namespace
}  // namespace hob
