#pragma once
// Folders with tokenizer.json and the files beside it, made for one test.
#include <filesystem>
#include <memory>
#include <string>

#include "format/gguf.h"
#include "text/hf_tokenizer.h"
#include "text/tokenizer.h"

namespace hob::testing_text {

// A folder of its own, removed at the end.
class HfFolder {
 public:
  HfFolder();
  ~HfFolder();
  HfFolder(const HfFolder&) = delete;
  HfFolder& operator=(const HfFolder&) = delete;

  void write(const std::string& name, const std::string& text) const;
  std::string path() const { return path_.string(); }
  Metadata metadata(const HfTokenizerOptions& options = {}) const;
  // The message of the Error that reading the folder throws; "" when it throws none.
  std::string error() const;

 private:
  std::filesystem::path path_;
};

// A small byte-level tokenizer.json; the arguments are JSON, put in their places. The vocabulary
// holds the 256 byte characters, then the texts of `more` in order.
struct HfParts {
  std::string more = R"(["ab", "<s>", "</s>"])";
  std::string merges = R"(["a b"])";
  std::string added =
      R"([{"id": 257, "content": "<s>", "special": true, "lstrip": false, "rstrip": false,
           "single_word": false, "normalized": false}])";
  std::string normalizer = "null";
  std::string pre_tokenizer =
      R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true})";
  std::string post_processor = "null";
  std::string decoder = R"({"type": "ByteLevel"})";
  std::string model_options = "";  // "\"key\": value, "
};
std::string hf_json(const HfParts& parts = {});

std::string read_text(const std::string& path);

}  // namespace hob::testing_text
