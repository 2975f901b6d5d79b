#pragma once
// Metadata -> ModelSpec: typed, range-checked look-ups below the `{arch}.` prefix, and the parts
// that families share.
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "format/model_file.h"
#include "model/spec.h"

namespace hob {

// Far above every published model, and small enough that no product of two overflows 64 bits and no
// single one an int. They turn a lying header into one clear line instead of a huge allocation.
inline constexpr int64_t kMaxLayers = 4096;
inline constexpr int64_t kMaxWidth = 1 << 22;
inline constexpr int64_t kMaxHeads = 1 << 14;
inline constexpr int64_t kMaxExperts = 1 << 14;
inline constexpr int64_t kMaxCtx = 1 << 30;

struct IntRange {
  int64_t min, max;
};
struct FloatRange {
  double min, max;  // both inclusive
};

// Where llama.cpp reads a model otherwise than its authors publish it. Ref: docs/models.md.
enum class Compat : uint8_t { kPublished, kLlamaCpp };

class SpecReader {
 public:
  SpecReader(const Metadata& metadata, std::span<const RawTensor> tensors, std::string arch,
             Compat compat)
      : metadata_(metadata), tensors_(tensors), arch_(std::move(arch)), compat_(compat) {}

  const std::string& arch() const { return arch_; }
  Compat compat() const { return compat_; }
  const Metadata& metadata() const { return metadata_; }
  std::string full_key(std::string_view key) const { return arch_ + "." + std::string(key); }

  int required_int(std::string_view key, IntRange range) const;
  int optional_int(std::string_view key, int fallback, IntRange range) const;
  float required_float(std::string_view key, FloatRange range) const;
  float optional_float(std::string_view key, float fallback, FloatRange range) const;

  const RawTensor* find_tensor(std::string_view name) const;
  // True when some tensor's name ends so ("_exps.weight").
  bool has_tensor_ending(std::string_view suffix) const;

 private:
  const Metadata& metadata_;
  std::span<const RawTensor> tensors_;
  std::string arch_;
  Compat compat_;
};

// Sizes, attention, rotation, norms: all that is the same in every family.
ModelSpec read_trunk(const SpecReader& in);

struct MoeDefaults {
  Router router = Router::kSoftmax;
  bool renormalise = false;
  int d_expert = 0;  // where the file has no expert_feed_forward_length
};
MoeSpec read_moe(const SpecReader& in, const MoeDefaults& defaults);

}  // namespace hob
