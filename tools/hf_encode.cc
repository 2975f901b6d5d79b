// hf_encode DIR [--file] < texts: token ids of many texts, for tools/compare_hf_tokenizer.py.
// stdin: each text as "N M\n" (its bytes; M = 1: control tokens are parsed) and the N bytes.
// stdout: one line a text: the ids, comma separated, a blank, what they decode to, as hex.
// --file: as a converted GGUF file would do it.
#include <cstdio>
#include <iostream>
#include <string>

#include "base/error.h"
#include "text/hf_tokenizer.h"

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  try {
    hob::Metadata metadata;
    hob::add_hf_tokenizer(argv[1], metadata, {.for_file = argc > 2});
    const auto tokenizer = hob::Tokenizer::from_gguf(metadata);
    size_t n = 0;
    int parse = 0;
    while (std::cin >> n >> parse) {
      std::cin.get();
      std::string text(n, '\0');
      std::cin.read(text.data(), static_cast<std::streamsize>(n));
      const auto ids = tokenizer->encode(text, {.add_special = true, .parse_special = parse != 0});
      std::string line;
      for (const hob::TokenId id : ids) line += (line.empty() ? "" : ",") + std::to_string(id);
      line.push_back(' ');
      for (const char c : tokenizer->decode(ids, false))
        line += fmt::format("{:02x}", static_cast<uint8_t>(c));
      puts(line.c_str());
    }
  } catch (const hob::Error& error) {
    fprintf(stderr, "hf_encode: %s\n", error.what());
    return 1;
  }
  return 0;
}
