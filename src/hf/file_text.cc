#include "hf/file_text.h"

#include "base/error.h"
#include "format/byte_source.h"

namespace hob {

std::string read_small_file(const std::string& path, uint64_t max_bytes) {
  const FileSource source(path);
  if (source.size() > max_bytes)
    fail(Code::kDataLoss, "[file] {}: expected at most {} bytes, the file has {}", printable(path),
         max_bytes, source.size());
  std::string text(source.size(), '\0');
  source.read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

}  // namespace hob
