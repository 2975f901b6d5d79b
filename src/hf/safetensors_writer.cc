#include "hf/safetensors_writer.h"

#include <cstring>

#include "base/error.h"
#include "format/atomic_file.h"
#include "format/strict_json.h"

namespace hob {

void SafetensorsWriter::add(std::string_view name, SafeType dtype, std::vector<int64_t> shape) {
  uint64_t n = bytes_of(dtype);
  for (const int64_t d : shape) n *= static_cast<uint64_t>(d);
  tensors_.push_back({std::string(name), dtype, std::move(shape), n});
}

std::string SafetensorsWriter::header() const {
  Json json = Json::object();
  json["__metadata__"] = {{"format", "pt"}};
  uint64_t at = 0;
  for (const Tensor& t : tensors_) {
    HOB_CHECK(!json.contains(t.name));
    json[t.name] = {
        {"dtype", name_of(t.dtype)}, {"shape", t.shape}, {"data_offsets", {at, at + t.n_bytes}}};
    at += t.n_bytes;
  }
  std::string text = json.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string length(8, 0);
  for (size_t i = 0; i < 8; i++) length[i] = static_cast<char>(text.size() >> (8 * i) & 0xff);
  return length + text;
}

void SafetensorsWriter::write(const std::string& path, const Fill& fill) const {
  AtomicFile file(path);
  const std::string head = header();
  file.write(std::as_bytes(std::span(head)));
  for (size_t i = 0; i < tensors_.size(); i++) {
    uint64_t n = 0;
    fill(i, [&](std::span<const std::byte> bytes) {
      n += bytes.size();
      file.write(bytes);
    });
    HOB_CHECK(n == tensors_[i].n_bytes);
  }
  file.commit();
}

}  // namespace hob
