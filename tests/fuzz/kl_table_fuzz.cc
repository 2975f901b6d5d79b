// Arbitrary bytes as the KL table of a pack. They must give settings that make sense or hob::Error.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "base/error.h"
#include "engine/kl_table.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const hob::KlTable table =
        hob::parse_kl_table({reinterpret_cast<const char*>(data), size}, "fuzz");
    for (const hob::KlRow& r : table.rows) {
      require(r.mean_kl >= 0 && r.relative_bytes >= 0 && r.relative_bytes <= 1);
      require(0 <= r.thresholds.t1 && r.thresholds.t1 <= r.thresholds.t2 && r.thresholds.t2 <= 1);
    }
    // What was accepted reads back the same.
    const std::string text = serialise_kl_table(table);
    require(serialise_kl_table(hob::parse_kl_table(text, "fuzz")) == text);
  } catch (const hob::Error&) {
  }
  return 0;
}
