// A checkpoint's files as one set of tensors.
#include <filesystem>
#include <set>

#include "base/error.h"
#include "format/strict_json.h"
#include "hf/file_text.h"
#include "hf/safetensors.h"

namespace hob {
namespace {

constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr const char* kSingleName = "model.safetensors";
constexpr JsonLimits kIndexLimits{.max_depth = 8, .max_values = 2 << 20};
constexpr uint64_t kMaxIndexBytes = 64 << 20;

// A plain name: nothing that leads out of the folder. (The file itself may be a link; the hub's
// cache is made of them.)
bool is_plain_name(std::string_view name) {
  return name.ends_with(".safetensors") && name.find('/') == std::string_view::npos &&
         name.find('\\') == std::string_view::npos;
}

}  // namespace

std::map<std::string, std::string> parse_safetensors_index(std::string_view text,
                                                           std::string_view label) {
  const std::string where = printable(label);
  const Json index = parse_json_object(text, kIndexLimits, [&](const std::string& fact) {
    fail(Code::kDataLoss, "[safetensors] {}: expected a JSON object, {}", where, fact);
  });
  const auto found = index.find("weight_map");
  if (found == index.end() || !found->is_object() || found->empty())
    fail(Code::kDataLoss,
         "[safetensors] {}: weight_map: expected an object with tensors, file has {}", where,
         found == index.end() ? "none" : quoted(*found));
  std::map<std::string, std::string> map;
  for (const auto& [tensor, file] : found->items()) {
    if (!file.is_string() || !is_plain_name(file.get<std::string>()))
      fail(
          Code::kDataLoss,
          "[safetensors] {}: {}: expected the name of a .safetensors file in the same folder, file "
          "has {}",
          where, printable(tensor), quoted(file));
    map.emplace(tensor, file.get<std::string>());
  }
  return map;
}

void SafetensorsSet::add_file(const std::string& path) {
  const int file = static_cast<int>(files_.size());
  auto source = std::make_unique<FileSource>(path);
  for (SafeTensor& t : parse_safetensors(*source, path)) {
    t.file = file;
    tensors_.push_back(std::move(t));
  }
  total_bytes_ += source->size();
  files_.push_back(path);
  sources_.push_back(std::move(source));
}

void SafetensorsSet::make_index() {
  for (size_t i = 0; i < tensors_.size(); i++) {
    const auto [it, is_new] = by_name_.emplace(tensors_[i].name, i);
    if (is_new) continue;
    const auto file_of = [&](size_t t) { return files_[static_cast<size_t>(tensors_[t].file)]; };
    fail(Code::kDataLoss, "[safetensors] {}: expected in one file, it is in {} and {}",
         printable(tensors_[i].name), printable(file_of(it->second)), printable(file_of(i)));
  }
}

void SafetensorsSet::check_weight_map(const std::map<std::string, std::string>& map,
                                      std::string_view label) const {
  const auto name_of_file = [&](const SafeTensor& t) {
    return std::filesystem::path(files_[static_cast<size_t>(t.file)]).filename().string();
  };
  for (const auto& [name, file] : map) {
    const SafeTensor* t = find(name);
    if (!t || name_of_file(*t) != file)
      fail(Code::kDataLoss, "[safetensors] {}: {}: expected in {}, it is in {}", printable(label),
           printable(name), printable(file), t ? printable(name_of_file(*t)) : "none of the files");
  }
  for (const SafeTensor& t : tensors_)
    if (!map.contains(t.name))
      fail(Code::kDataLoss,
           "[safetensors] {}: expected every tensor in weight_map, {} of {} is not",
           printable(label), printable(t.name), printable(name_of_file(t)));
}

SafetensorsSet SafetensorsSet::open(const std::string& dir) {
  const std::filesystem::path folder(dir);
  SafetensorsSet set;
  std::error_code ignored;
  if (const auto index = folder / kIndexName; std::filesystem::exists(index, ignored)) {
    const auto map =
        parse_safetensors_index(read_small_file(index, kMaxIndexBytes), index.string());
    std::set<std::string> names;
    for (const auto& [tensor, file] : map) names.insert(file);
    for (const std::string& name : names) set.add_file(folder / name);
    set.make_index();
    set.check_weight_map(map, index.string());
    return set;
  }
  const auto single = folder / kSingleName;
  if (!std::filesystem::exists(single, ignored))
    fail(Code::kNotFound, "[safetensors] {}: expected {} or {}, there is neither", printable(dir),
         kSingleName, kIndexName);
  set.add_file(single);
  set.make_index();
  return set;
}

const SafeTensor* SafetensorsSet::find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &tensors_[it->second];
}

void SafetensorsSet::read(const SafeTensor& tensor, uint64_t offset,
                          std::span<std::byte> dst) const {
  HOB_CHECK(offset <= tensor.n_bytes && dst.size() <= tensor.n_bytes - offset);
  sources_[static_cast<size_t>(tensor.file)]->read(tensor.offset + offset, dst);
}

}  // namespace hob
