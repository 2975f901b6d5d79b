#include "format/gguf.h"

#include <cctype>
#include <unordered_set>

#include "base/error.h"
#include "format/byte_source.h"
#include "format/gguf_parse.h"

namespace hob {
namespace {

constexpr std::string_view kSplitNo = "split.no";  // counts from 0; file names count from 1
constexpr std::string_view kSplitCount = "split.count";
constexpr std::string_view kSplitTensors = "split.tensors.count";
constexpr std::string_view kArchitecture = "general.architecture";

GgufShard parse_file(const std::string& path) {
  const FileSource source(path);
  return parse_gguf(source, path);
}

// `DIR/X-00002-of-00003.gguf`: prefix `DIR/X`, no 2, count 3.
struct ShardName {
  std::string prefix;
  uint64_t no = 0;
  uint64_t count = 0;

  std::string path(uint64_t shard_no) const {
    return fmt::format("{}-{:05}-of-{:05}.gguf", prefix, shard_no, count);
  }
};

std::optional<ShardName> parse_shard_name(const std::string& path) {
  constexpr std::string_view kPattern = "-00000-of-00000.gguf";
  if (path.size() <= kPattern.size()) return std::nullopt;
  const size_t start = path.size() - kPattern.size();
  uint64_t numbers[2] = {0, 0};
  for (size_t i = 0; i < kPattern.size(); i++) {
    const char c = path[start + i];
    if (kPattern[i] != '0') {
      if (c != kPattern[i]) return std::nullopt;
    } else {
      if (c < '0' || c > '9') return std::nullopt;
      uint64_t& number = numbers[i > 8];  // the pattern's "-of-" ends at 9
      number = number * 10 + static_cast<uint64_t>(c - '0');
    }
  }
  return ShardName{path.substr(0, start), numbers[0], numbers[1]};
}

uint64_t split_count(const Metadata& metadata) {
  return metadata.find_uint(kSplitCount).value_or(1);
}

void check_equal(const std::string& path, std::string_view key, uint64_t expected, uint64_t fact) {
  if (expected == fact) return;
  fail(Code::kDataLoss, "[gguf] {}: key {}: expected {}, file has {}", printable(path), key,
       expected, fact);
}

// `first` is the first shard; the other's own keys must say that it belongs to it.
void check_shard(const Metadata& first, const GgufShard& shard, const std::string& path,
                 uint64_t no) {
  check_equal(path, kSplitCount, split_count(first), split_count(shard.metadata));
  check_equal(path, kSplitNo, no, shard.metadata.get_uint(kSplitNo));
  const auto n_tensors = first.find_uint(kSplitTensors);
  if (n_tensors)
    check_equal(path, kSplitTensors, *n_tensors, shard.metadata.get_uint(kSplitTensors));
  const auto architecture = shard.metadata.find_string(kArchitecture);
  if (architecture && *architecture != first.get_string(kArchitecture)) {
    fail(Code::kDataLoss, "[gguf] {}: expected a shard of a {} model, file has {}", printable(path),
         printable(first.get_string(kArchitecture)), printable(*architecture));
  }
}

// Paths of all shards, in order. `opened` is the file the user named.
std::vector<std::string> shard_paths(const std::string& path, const GgufShard& opened) {
  const uint64_t count = split_count(opened.metadata);
  if (count <= 1) return {path};
  const auto name = parse_shard_name(path);
  if (!name || name->count != count || name->no < 1 || name->no > count) {
    fail(
        Code::kInvalidArgument,
        "[gguf] {}: expected a name ending in -{:05}-of-{:05}.gguf (it is a shard), it has another",
        printable(path), opened.metadata.find_uint(kSplitNo).value_or(0) + 1, count);
  }
  std::vector<std::string> paths;
  for (uint64_t no = 1; no <= count; no++) paths.push_back(name->path(no));
  return paths;
}

GgufShard parse_shard(const std::string& path, size_t no, size_t count) {
  try {
    return parse_file(path);
  } catch (const Error& error) {
    if (error.code() != Code::kNotFound) throw;
    fail(Code::kNotFound, "[gguf] {}: shard {} of {} is missing", printable(path), no, count);
  }
}

}  // namespace

ModelFile open_gguf(const std::string& path) {
  GgufShard opened = parse_file(path);
  const std::vector<std::string> files = shard_paths(path, opened);
  GgufShard first = files.size() > 1 ? parse_shard(files[0], 1, files.size()) : std::move(opened);
  Metadata metadata;
  std::vector<RawTensor> tensors;
  std::unordered_set<std::string> names;
  uint64_t total_bytes = 0;
  for (size_t i = 0; i < files.size(); i++) {
    GgufShard shard = i == 0 ? std::move(first) : parse_shard(files[i], i + 1, files.size());
    if (files.size() > 1) check_shard(i == 0 ? shard.metadata : metadata, shard, files[i], i);
    if (i == 0) metadata = std::move(shard.metadata);
    total_bytes += shard.n_bytes;
    for (RawTensor& tensor : shard.tensors) {
      tensor.file = static_cast<int>(i);
      if (!names.insert(tensor.name).second)
        fail(Code::kDataLoss, "[gguf] {}: tensor {} is in an earlier shard too",
             printable(files[i]), tensor.name);
      tensors.push_back(std::move(tensor));
    }
  }
  const auto n_tensors = metadata.find_uint(kSplitTensors);
  if (files.size() > 1 && n_tensors)
    check_equal(files[0], kSplitTensors, tensors.size(), *n_tensors);
  return {std::move(metadata), std::move(tensors), files, total_bytes};
}

}  // namespace hob
